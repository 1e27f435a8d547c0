import { type RefObject, useCallback, useEffect, useRef, useState } from "react";

const NEAR_PX = 48; // from the end, which counts as being there
const ACTING_MS = 400; // after the last touch of wheel, finger or key, in which scrolling is the reader's own

/**
 * Keeps a growing list at its end while its reader is there, and leaves them alone once they scrolled up.
 * Gives whether it follows, and a function that goes to the end and follows again.
 */
export function useFollowing(scroller: RefObject<HTMLElement | null>): { isFollowing: boolean; follow: () => void } {
  const [isFollowing, setFollowing] = useState(true);
  const follows = useRef(true);

  const set = useCallback((value: boolean) => {
    follows.current = value;
    setFollowing(value);
  }, []);

  useEffect(() => {
    const element = scroller.current;
    if (element === null) return;
    let actedAt = Number.NEGATIVE_INFINITY;
    const toEnd = () => {
      element.scrollTop = element.scrollHeight;
    };
    const act = () => {
      actedAt = performance.now();
    };
    const onScroll = () => {
      const rest = element.scrollHeight - element.clientHeight - element.scrollTop;
      if (rest <= NEAR_PX) set(true);
      else if (performance.now() - actedAt < ACTING_MS) set(false);
    };
    const sizes = new ResizeObserver(() => follows.current && toEnd());
    sizes.observe(element);
    if (element.firstElementChild !== null) sizes.observe(element.firstElementChild);
    const acts = ["wheel", "touchmove", "keydown", "pointerdown", "pointermove"] as const;
    for (const name of acts) element.addEventListener(name, act, { passive: true });
    element.addEventListener("scroll", onScroll, { passive: true });
    toEnd();
    return () => {
      sizes.disconnect();
      for (const name of acts) element.removeEventListener(name, act);
      element.removeEventListener("scroll", onScroll);
    };
  }, [scroller, set]);

  const follow = () => {
    set(true);
    if (scroller.current !== null) scroller.current.scrollTop = scroller.current.scrollHeight;
  };
  return { isFollowing, follow };
}
