import { expect, test } from "vitest";
import { NOTHING_YET } from "../chat/chunks";
import type { Facts } from "../chat/facts";
import { fastestOf, type Lane } from "./contest";

function lane(model: string, tokensPerS: number | null, state: Lane["state"] = "done"): Lane {
  return { model, state, answer: { ...NOTHING_YET, facts: { tokensPerS } as Facts } };
}

test("the fastest is told when all are over and timed", () => {
  expect(fastestOf([lane("a", 10), lane("b", 30), lane("c", 20)])).toBe("b");
  expect(fastestOf([lane("a", 10), lane("b", 30, "answering")])).toBeNull();
  expect(fastestOf([lane("a", 10), lane("b", null)])).toBeNull();
  expect(fastestOf([lane("a", 10)])).toBeNull();
});
