import { expect, test } from "vitest";
import { Characters } from "./Characters";

test("offsets of the server count characters, also after one that is two units here", () => {
  const text = "가😀나 b";
  const characters = new Characters(text);
  expect(characters.length).toBe(5);
  expect(characters.slice(1, 2)).toBe("😀");
  expect(characters.slice(2, 5)).toBe("나 b");
  expect(characters.slice(0, 5)).toBe(text);
});

test("a plain text is cut as it is", () => {
  const characters = new Characters("마당 yard");
  expect(characters.length).toBe(7);
  expect(characters.slice(0, 2)).toBe("마당");
  expect(characters.slice(5, 99)).toBe("rd");
});

test("a half of a pair that stands alone is a character", () => {
  expect(new Characters("a\ud800b😀").slice(2, 4)).toBe("b😀");
});
