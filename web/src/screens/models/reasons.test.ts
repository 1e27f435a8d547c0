import { expect, test } from "vitest";
import { KOREAN, said } from "./reasons";

test("a sentence of the server is said in Korean, and so is what stands in it", () => {
  expect(said({ template: "made for {task}", fields: { task: "coding" } }, KOREAN)).toBe("코드에 맞춰 만든 모델");
});

test("what nobody translated is said as it is", () => {
  expect(said({ template: "new {thing}", fields: { thing: "{x} engine" } }, KOREAN)).toBe("new {x} engine");
  expect(said({ template: "new {thing}", fields: {} }, {})).toBe("new {thing}");
});
