import { expect, test } from "vitest";
import { preferred } from ".";
import { en } from "./en";
import { ko } from "./ko";

const HANGUL = /[가-힣]/;
const SCREENS = import.meta.glob<{ texts: { en: object; ko: object } }>("../screens/*/texts.ts", { eager: true });
const TABLES = [{ en: en as object, ko: ko as object }, ...Object.values(SCREENS).map((module) => module.texts)];

test("the first language of the browser that there is wins", () => {
  expect(preferred(["ko-KR", "en-US"])).toBe("ko");
  expect(preferred(["fr", "ko"])).toBe("ko");
  expect(preferred(["en-GB", "ko"])).toBe("en");
  expect(preferred(["fr"])).toBe("en");
  expect(preferred([])).toBe("en");
});

test("English has no Korean, and Korean has no text that was left in English", () => {
  for (const tables of TABLES) {
    const english = new Map(texts(tables.en));
    for (const [path, text] of english) expect(text, path).not.toMatch(HANGUL);
    for (const [path, text] of texts(tables.ko)) {
      expect(text.trim(), path).not.toBe("");
      if (/[a-z]{4,} [a-z]{3,}/i.test(english.get(path) ?? "")) expect(text, path).toMatch(HANGUL);
    }
  }
});

test("texts with a number or a name have it in both languages", () => {
  for (const [path, text] of TABLES.flatMap(({ en, ko }) => [...texts(en), ...texts(ko)]))
    expect(text, path).not.toMatch(/undefined|\[object/);
});

function texts(table: object, path = ""): [string, string][] {
  return Object.entries(table).flatMap(([name, value]): [string, string][] => {
    if (typeof value === "string") return [[`${path}${name}`, value]];
    if (Array.isArray(value)) return value.map((item, index) => [`${path}${name}.${index}`, String(item)]);
    if (typeof value === "function") return [[`${path}${name}`, String(value("7", "8", "9"))]];
    return texts(value, `${path}${name}.`);
  });
}
