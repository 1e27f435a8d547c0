import { describe, expect, test } from "vitest";
import { bytesOf, drawnOf, groupsOf, isPartial, koreanTimes, type ModelTokens, type Token } from "./tokens";

function token(text: string, start: number, end: number, is_control = false): Token {
  return { id: 1, text, start, end, is_control };
}

describe("tokens", () => {
  test("that are bytes of one character stand together under it", () => {
    const tokens = [token("a", 0, 1), token("<0xEB>", 1, 2), token("<0xA7><0x88>", 1, 2), token(" b", 2, 4)];
    const groups = groupsOf(tokens, "a마 b");
    expect(groups.map((group) => [group.character, group.tokens.map((one) => one.index)])).toEqual([
      [null, [0]],
      ["마", [1, 2]],
      [null, [3]],
    ]);
  });

  test("of a character may begin with the space before it", () => {
    const groups = groupsOf([token(" <0xEC>", 0, 2), token("<0xA7><0x91>", 1, 2)], " 집");
    expect(groups.map((group) => [group.character, group.tokens.length])).toEqual([["집", 2]]);
  });

  test("of an emoji are counted as the server counts them", () => {
    const tokens = [token("<0xF0><0x9F>", 0, 1), token("<0x98><0x80>", 0, 1), token("x", 1, 2)];
    expect(groupsOf(tokens, "😀x")[0]?.character).toBe("😀");
  });

  test("around a text, which have no place in it, stay alone", () => {
    const groups = groupsOf([token("<s>", 0, 0, true), token("<|x|>", 0, 0, true), token("a", 0, 1)], "a");
    expect(groups).toHaveLength(3);
  });

  test("tell their bytes", () => {
    expect(bytesOf("마")).toEqual([0xeb, 0xa7, 0x88]);
    expect(bytesOf(" a<0xEB><0x8B>")).toEqual([0x20, 0x61, 0xeb, 0x8b]);
  });

  test("are drawn so that space is seen", () => {
    expect(drawnOf(token(" a b", 0, 4))).toEqual({ text: "·a·b", breaks: false });
    expect(drawnOf(token("\n", 0, 1))).toEqual({ text: "↵", breaks: true });
    expect(drawnOf(token("<0xEB><0x8B>", 0, 1)).text).toBe("eb 8b");
    expect(isPartial(token("<0xEB>", 0, 1))).toBe(true);
    expect(isPartial(token("<0xEB>", 0, 6, true))).toBe(false);
  });
});

test("Korean is measured against English only where there is both", () => {
  const model = { tokens_per_letter: { korean: 2.5, english: 0.25 } } as unknown as ModelTokens;
  expect(koreanTimes(model)).toBe(10);
  expect(koreanTimes({ tokens_per_letter: { korean: 1 } } as unknown as ModelTokens)).toBeNull();
});
