import { useSyncExternalStore } from "react";

/** A value that components watch and that outlives them. */
export class Store<T> {
  #value: T;
  #listeners = new Set<() => void>();

  constructor(value: T) {
    this.#value = value;
  }

  get = (): T => this.#value;

  set = (value: T): void => {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    for (const listener of [...this.#listeners]) listener();
  };

  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };
}

export function useStore<T>(store: Store<T>): T {
  return useSyncExternalStore(store.subscribe, store.get);
}

/** A store that is the same after a reload. `read` gives undefined for what it does not know, as after an update. */
export function persisted<T>(key: string, fallback: T, read: (value: unknown) => T | undefined): Store<T> {
  const store = new Store<T>(recalled(key, read) ?? fallback);
  store.subscribe(() => remember(key, store.get()));
  return store;
}

export function recalled<T>(key: string, read: (value: unknown) => T | undefined): T | undefined {
  try {
    const text = localStorage.getItem(`madang.${key}`);
    return text === null ? undefined : read(JSON.parse(text));
  } catch {
    return undefined; // no storage, or not ours
  }
}

/** Null and undefined forget it. Without storage, it lasts as long as the page. */
export function remember(key: string, value: unknown): void {
  try {
    if (value === undefined || value === null) localStorage.removeItem(`madang.${key}`);
    else localStorage.setItem(`madang.${key}`, JSON.stringify(value));
  } catch {}
}
