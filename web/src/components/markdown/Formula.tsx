import "katex/dist/katex.min.css";
import katex from "katex";
import { useLayoutEffect, useRef } from "react";

/** A formula, built as elements: KaTeX never sees the page's HTML, and its input may not name addresses. */
export default function Formula({ text, isBlock }: { text: string; isBlock: boolean }) {
  const place = useRef<HTMLSpanElement>(null);
  useLayoutEffect(() => {
    if (place.current === null) return;
    katex.render(text, place.current, {
      displayMode: isBlock,
      throwOnError: false,
      trust: false,
      strict: false,
      maxSize: 20,
      maxExpand: 500,
    });
  }, [text, isBlock]);
  return (
    <span ref={place} style={isBlock ? { display: "block", overflowX: "auto", overflowY: "hidden" } : undefined} />
  );
}
