import { Store } from "@/app/store";

// sessionStorage: a key ends with its tab, and other tabs and pages never see it.
const KEY = "madang.key";

/** The API key in use; null where none is needed or known. */
export const apiKey = new Store<string | null>(recalledKey());

/** Whether the server asked for a key, and whether it refused the one that was sent. */
export const keyWanted = new Store<"no" | "missing" | "wrong">("no");

apiKey.subscribe(() => {
  const key = apiKey.get();
  try {
    if (key === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, key);
  } catch {}
});

function recalledKey(): string | null {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

/** For every request that this page sends. */
export function authorization(): Record<string, string> {
  const key = apiKey.get();
  return key === null ? {} : { Authorization: `Bearer ${key}` };
}
