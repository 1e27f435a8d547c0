import { expect, test } from "vitest";
import { failureOf } from "./failure";

test("both shapes of the server's errors are read", () => {
  const own = failureOf(
    { error: { code: "not_found", message: "There is no session.", hint: "Begin one." } },
    404,
    "r1",
  );
  expect(own).toMatchObject({
    code: "not_found",
    message: "There is no session.",
    hint: "Begin one.",
    requestId: "r1",
  });
  const openai = failureOf({ error: { message: "Too long.", code: "context_length_exceeded", n_ctx: 10 } }, 400);
  expect(openai.code).toBe("context_length_exceeded");
  expect(openai.fields.n_ctx).toBe(10);
});

test("what is no error of ours is told by its status", () => {
  expect(failureOf("<html>", 502).message).toBe("HTTP 502");
  expect(failureOf(null, 500).code).toBe("error");
});
