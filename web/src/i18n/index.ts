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

/** Numbers and times as the language writes them. */
export function useFormats() {
  const language = useLanguage();
  return formatsOf(language);
}

const made = new Map<Language, ReturnType<typeof makeFormats>>();

export function formatsOf(language: Language) {
  let formats = made.get(language);
  if (formats === undefined) {
    formats = makeFormats(language);
    made.set(language, formats);
  }
  return formats;
}

function makeFormats(language: Language) {
  const whole = new Intl.NumberFormat(language, { maximumFractionDigits: 0 });
  const tenth = new Intl.NumberFormat(language, { maximumFractionDigits: 1 });
  const fine = new Intl.NumberFormat(language, { maximumSignificantDigits: 2 });
  const day = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });
  const size = new Intl.NumberFormat(language, { maximumSignificantDigits: 3 });
  const UNITS = ["B", "kB", "MB", "GB", "TB"];
  return {
    count: (value: number) => whole.format(value),
    rate: (value: number) => (value < 10 ? tenth : whole).format(value),
    seconds: (value: number) => (value < 1 ? fine : tenth).format(value),
    time: (value: string | number | Date) => day.format(new Date(value)),
    /** Decimal units and three digits, as the command line writes them. */
    bytes: (value: number) => {
      let n = value;
      let unit = 0;
      for (; Math.abs(n) >= 999.5 && unit < UNITS.length - 1; unit += 1) n /= 1000;
      return `${size.format(n)} ${UNITS[unit]}`;
    },
  };
}
