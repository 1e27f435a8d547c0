import type { MantineColorScheme, MantineColorSchemeManager } from "@mantine/core";

// As a bare word, because public/scheme.js reads it before this page's code is there.
const KEY = "madang.scheme";

/** Dark, light or as the system, remembered; other tabs follow. */
export function schemeManager(): MantineColorSchemeManager {
  let listener: ((event: StorageEvent) => void) | undefined;
  return {
    get: (fallback) => read() ?? fallback,
    set: (scheme) => {
      try {
        localStorage.setItem(KEY, scheme);
      } catch {}
    },
    subscribe: (onUpdate) => {
      listener = (event) => {
        if (event.key === KEY) onUpdate(read() ?? "auto");
      };
      window.addEventListener("storage", listener);
    },
    unsubscribe: () => {
      if (listener !== undefined) window.removeEventListener("storage", listener);
    },
    clear: () => {
      try {
        localStorage.removeItem(KEY);
      } catch {}
    },
  };
}

function read(): MantineColorScheme | null {
  try {
    const value = localStorage.getItem(KEY);
    return value === "light" || value === "dark" || value === "auto" ? value : null;
  } catch {
    return null;
  }
}
