import { type Language, useLanguage } from ".";

/**
 * The texts of one screen in the language of the page. They lie beside the screen (`screens/<name>/texts.ts`) and are
 * loaded with it, so that the first screen does not wait for the texts of all.
 */
export function useTable<T>(tables: Readonly<Record<Language, T>>): T {
  return tables[useLanguage()];
}

/** A table in another language: the same names, every text again. */
export type Translated<T> = {
  [K in keyof T]: T[K] extends (...given: infer A) => string
    ? (...given: A) => string
    : T[K] extends string
      ? string
      : T[K] extends readonly string[]
        ? readonly string[]
        : Translated<T[K]>;
};
