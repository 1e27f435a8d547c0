import { useEffect, useEffectEvent } from "react";

/** Names of keys as in the event's `key`, lower case; "mod" is Ctrl, or Command on a Mac. */
export type Shortcut = `mod+${string}` | `mod+shift+${string}` | `alt+${string}` | "escape" | "/" | "?";

const isMac = typeof navigator !== "undefined" && /Mac|iPhone|iPad/.test(navigator.platform);

/** Whether an event is this shortcut. Letters are compared by their place too, since Korean layouts give Korean ones. */
export function isPressed(event: KeyboardEvent, shortcut: Shortcut): boolean {
  const words = shortcut.split("+");
  const key = words.pop() ?? "";
  const wantsMod = words.includes("mod");
  if ((isMac ? event.metaKey : event.ctrlKey) !== wantsMod || event.altKey !== words.includes("alt")) return false;
  if (words.length > 0 && event.shiftKey !== words.includes("shift")) return false;
  return event.key.toLowerCase() === key || (words.length > 0 && event.code.toLowerCase() === codeOf(key));
}

function codeOf(key: string): string {
  return /^[0-9]$/.test(key) ? `digit${key}` : `key${key}`;
}

/** As people write it: "Ctrl K", "⌘ K". */
export function keysOf(shortcut: Shortcut): string[] {
  const names: Record<string, string> = {
    mod: isMac ? "⌘" : "Ctrl",
    shift: isMac ? "⇧" : "Shift",
    alt: isMac ? "⌥" : "Alt",
  };
  return shortcut.split("+").map((word) => names[word] ?? (word.length === 1 ? word.toUpperCase() : titled(word)));
}

function titled(word: string): string {
  return word === "escape" ? "Esc" : word.charAt(0).toUpperCase() + word.slice(1);
}

/** Run `act` on the shortcut, anywhere on the page; a bare character only where nobody types. */
export function useShortcut(shortcut: Shortcut, act: () => void): void {
  const onPress = useEffectEvent((event: KeyboardEvent) => {
    // During the composition of a Korean syllable every key belongs to the input method.
    if (event.isComposing || event.defaultPrevented || !isPressed(event, shortcut)) return;
    if (shortcut.length === 1 && isTyping(event.target)) return;
    event.preventDefault();
    act();
  });
  useEffect(() => {
    const listener = (event: KeyboardEvent) => onPress(event);
    window.addEventListener("keydown", listener);
    return () => window.removeEventListener("keydown", listener);
  }, []);
}

function isTyping(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName))
  );
}
