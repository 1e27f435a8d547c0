import { describe, expect, test } from "vitest";
import { Branches, type Turn } from "./branches";
import { NOTHING_YET, withEvent } from "./chunks";
import { factsOfTurn } from "./facts";
import { type Asked, requestOf } from "./generations";
import { readNumber, withNumber } from "./preferences";

function turn(id: string, parent: string | null, role = "user"): Turn {
  const said = { content: id, reasoning: "", tool_calls: [], tool_call_id: null, name: null };
  return { ...said, id, parent, role, state: "whole", model: null, facts: {}, created_at: "2026-01-01T00:00:00Z" };
}

describe("branches", () => {
  const branches = new Branches([
    turn("q1", null),
    turn("a1", "q1", "assistant"),
    turn("a2", "q1", "assistant"),
    turn("q2", "a2"),
    turn("a3", "q2", "assistant"),
    turn("q3", "a2"),
  ]);

  test("lead from the beginning to the end that is shown", () => {
    expect(branches.path("a3").map((placed) => placed.turn.id)).toEqual(["q1", "a2", "q2", "a3"]);
    expect(branches.path("a1").map((placed) => placed.turn.id)).toEqual(["q1", "a1"]);
    expect(branches.path(null)).toEqual([]);
    expect(branches.path("nowhere")).toEqual([]);
  });

  test("know what stands in the place of a turn", () => {
    expect(branches.path("a3").map((placed) => placed.siblings)).toEqual([["q1"], ["a1", "a2"], ["q2", "q3"], ["a3"]]);
  });

  test("end with what was said last in them", () => {
    expect(branches.end("a2")).toBe("q3");
    expect(branches.end("q2")).toBe("a3");
    expect(branches.end("a1")).toBe("a1");
  });

  test("that bite their own tail end, too", () => {
    const round = new Branches([turn("a", "b"), turn("b", "a")]);
    expect(round.path("a").length).toBe(2);
    expect(["a", "b"]).toContain(round.end("a"));
  });
});

const chunk = (delta: object, more: object = {}, finish: string | null = null) =>
  JSON.stringify({ choices: [{ index: 0, delta, finish_reason: finish }], ...more });

describe("a stream", () => {
  test("becomes an answer with its facts", () => {
    const madang = { message: "msg_2", question: "msg_1", n_ctx: 100, cached_tokens: 3, kept_tokens: 5, seed: 7 };
    const timings = { prompt_ms: 250, predicted_per_second: 50 };
    const answer = [
      chunk({ role: "assistant", content: "" }),
      chunk({ reasoning_content: "hm" }),
      chunk({ content: "마" }),
      chunk({ content: "당" }),
      chunk({ tool_calls: [{ index: 0, id: "c", function: { name: "look", arguments: '{"a":1}' } }] }),
      chunk({}, { madang, timings }, "stop"),
      "[DONE]",
    ].reduce(withEvent, NOTHING_YET);
    expect(answer).toMatchObject({ text: "마당", reasoning: "hm", message: "msg_2", question: "msg_1", isWhole: true });
    expect(answer.calls).toEqual([{ name: "look", arguments: '{"a":1}' }]);
    expect(answer.facts).toMatchObject({ firstTokenS: 0.25, tokensPerS: 50, cachedTokens: 3, seed: "7" });
  });

  test("that fails in the middle keeps what came, and says why", () => {
    const answer = [
      chunk({ content: "a" }),
      '{"error":{"message":"The server is stopping.","code":"overloaded"}}',
    ].reduce(withEvent, NOTHING_YET);
    expect(answer.text).toBe("a");
    expect(answer.failure).toMatchObject({ message: "The server is stopping.", code: "overloaded" });
    expect(answer.isWhole).toBe(false);
  });

  test("has sources, of which only whole ones count", () => {
    const source = {
      n: 1,
      collection: "c",
      chunk: "k",
      document: "d",
      title: "T",
      headings: [],
      page: null,
      start: 0,
      end: 1,
      text: "x",
      score: 0.5,
    };
    const madang = { sources: [source, { n: 2 }, null], is_grounded: true };
    const answer = withEvent(NOTHING_YET, chunk({}, { madang }, "stop"));
    expect(answer.facts?.sources).toEqual([source]);
    expect(answer.facts?.isGrounded).toBe(true);
  });

  test("unknown figures stay unknown, and seeds that no number holds are not shown wrong", () => {
    const answer = withEvent(
      NOTHING_YET,
      chunk({}, { madang: { seed: 7 } }, "stop").replace("7", "4457054140260160770"),
    );
    expect(answer.facts).toMatchObject({ seed: null, tokensPerS: null, firstTokenS: null, cachedTokens: null });
  });
});

test("facts of a kept turn are those of its answer", () => {
  const timings = { time_to_first_token_s: 0.1, decode_tokens: 20, decode_s: 2, load_s: 0 };
  const ledger = {
    n_ctx: 100,
    received_tokens: 5,
    cached_tokens: 0,
    kept_tokens: 5,
    dropped_tokens: 0,
    generated_tokens: 21,
  };
  const facts = factsOfTurn({ timings, ledger, seed: 1, finish_reason: "length" });
  expect(facts).toMatchObject({ tokensPerS: 10, firstTokenS: 0.1, cachedTokens: 0, finishReason: "length" });
  expect(factsOfTurn({})).toBeNull();
});

describe("a request", () => {
  const asked: Asked = { session: "s", model: "m", text: "hi", parent: null, collections: [], sampling: {} };

  test("sends what is new, and where it belongs", () => {
    expect(requestOf(asked)).toEqual({
      model: "m",
      stream: true,
      messages: [{ role: "user", content: "hi" }],
      madang: { session: "s", parent: "" },
    });
    expect(requestOf({ ...asked, text: null, parent: "q" })).toMatchObject({ messages: [], madang: { parent: "q" } });
  });

  test("sends 0, and nothing of what is unset", () => {
    const sampling = withNumber(withNumber({ temperature: 1 }, "temperature", 0), "top_k", null);
    expect(requestOf({ ...asked, sampling })).toMatchObject({ temperature: 0 });
    expect(requestOf({ ...asked, sampling })).not.toHaveProperty("top_k");
    expect(requestOf({ ...asked, collections: ["a"] })).toMatchObject({ madang: { collection: ["a"] } });
  });
});

test("numbers are read as people write them", () => {
  expect(readNumber("temperature", "0")).toBe(0);
  expect(readNumber("temperature", " 0,7 ")).toBe(0.7);
  expect(readNumber("temperature", "")).toBeNull();
  expect(readNumber("temperature", "hot")).toBeUndefined();
  expect(readNumber("temperature", "3")).toBeUndefined();
  expect(readNumber("top_k", "1.5")).toBeUndefined();
});
