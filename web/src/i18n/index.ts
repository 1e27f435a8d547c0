import { persisted, Store, useStore } from "@/app/store";
import { en, type Text } from "./en";
import { ko } from "./ko";

export type Language = "en" | "ko";
export type { Text } from "./en";

export const LANGUAGES: Readonly<Record<Language, string>> = { en: "English", ko: "한국어" };
const TABLES: Readonly<Record<Language, Text>> = { en, ko };

/** The first language of the browser that there is a table for. */
export function preferred(languages: readonly string[]): Language {
  for (const tag of languages) {
    const language = tag.toLowerCase().split("-")[0];
    if (language === "en" || language === "ko") return language;
  }
  return "en";
}

const browser = new Store<Language>(preferred(typeof navigator === "undefined" ? [] : navigator.languages));

/** What was chosen; null follows the browser. */
export const chosenLanguage = persisted<Language | null>("language", null, (value) =>
  value === "en" || value === "ko" ? value : undefined,
);

export function currentLanguage(): Language {
  return chosenLanguage.get() ?? browser.get();
}

export function useLanguage(): Language {
  return useStore(chosenLanguage) ?? browser.get();
}

/** All texts in the language of the page. */
export function useText(): Text {
  return TABLES[useLanguage()];
}

/** The same outside of components. */
export function currentText(): Text {
  return TABLES[currentLanguage()];
}
