import { expect, test } from "vitest";
import { outlineOf, piecesOf } from "./pieces";

const chunk = (id: string, start: number, end: number, headings: string[] = []) => ({
  id,
  start,
  end,
  headings,
  page: null,
  speaker: null,
});

test("chunks and what lies between them make up the text", () => {
  const text = "one😀 two three";
  const pieces = piecesOf({ text, chunks: [chunk("b", 9, 14), chunk("a", 0, 4)] });
  expect(pieces.map((piece) => [piece.chunk, piece.number, piece.text])).toEqual([
    ["a", 1, "one😀"],
    [null, 0, " two "],
    ["b", 2, "three"],
  ]);
});

test("space between chunks is nothing to show", () => {
  const pieces = piecesOf({ text: "one\n\ntwo", chunks: [chunk("a", 0, 3), chunk("b", 5, 8)] });
  expect(pieces.map((piece) => piece.chunk)).toEqual(["a", "b"]);
});

test("what two chunks share is shown once", () => {
  const pieces = piecesOf({ text: "abcdef", chunks: [chunk("a", 0, 4), chunk("b", 2, 6)] });
  expect(pieces.map((piece) => piece.text).join("")).toBe("abcdef");
});

test("the outline has each section once, at its first chunk", () => {
  const text = "abcd";
  const chunks = [
    chunk("a", 0, 1, ["Top"]),
    chunk("b", 1, 2, ["Top", "Sub"]),
    chunk("c", 2, 3, ["Top", "Sub"]),
    chunk("d", 3, 4, ["End"]),
  ];
  expect(outlineOf(piecesOf({ text, chunks }))).toEqual([
    { chunk: "a", heading: "Top", depth: 0 },
    { chunk: "b", heading: "Sub", depth: 1 },
    { chunk: "d", heading: "End", depth: 0 },
  ]);
});
