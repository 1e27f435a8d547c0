import { describe, expect, test } from "vitest";
import { labelsOf, measuredOf, pointsOf, ticksOf } from "./plots";

const result = {
  reference: "a",
  models: [
    {
      label: "a",
      failed: null,
      size_bytes: 100,
      memory: { peak_bytes: 7 },
      speed: {
        prompt: { tokens_per_s: { median: 50, min: 40, max: 60 } },
        decode: { tokens_per_s: { median: 10, min: 9, max: 11 } },
        time_to_first_token_s: { median: 0.5, min: 0.4, max: 0.6 },
      },
      text: { english: { perplexity: { value: 12, low: 11, high: 13 } } },
      against_reference: null,
    },
    {
      label: "b",
      failed: null,
      size_bytes: 60,
      speed: null,
      text: { english: { perplexity: { value: 15, low: null, high: null } } },
      against_reference: { divergence: { mean_kl: { value: 0.1, low: 0.08, high: 0.12 } } },
    },
    { label: "c", failed: "It does not fit.", size_bytes: null, speed: null, text: null, against_reference: null },
  ],
};

describe("a kept comparison", () => {
  const [a, b, c] = measuredOf(result);

  test("has the figures that were measured, and null for the others", () => {
    expect(a?.decodeTokensPerS).toEqual({ value: 10, low: 9, high: 11 });
    expect(a?.perplexity.english).toEqual({ value: 12, low: 11, high: 13 });
    expect(b?.decodeTokensPerS).toBeNull();
    expect(c).toMatchObject({ failed: "It does not fit.", sizeBytes: null, perplexity: {}, kl: null });
  });

  test("takes the reference for no different from itself", () => {
    expect(a?.kl?.value).toBe(0);
    expect(b?.kl?.value).toBe(0.1);
  });

  test("plots only what has both figures", () => {
    const models = measuredOf(result);
    expect(
      pointsOf(
        models,
        (one) => one.sizeBytes,
        (one) => one.kl,
      ).map((one) => [one.label, one.x, one.y]),
    ).toEqual([
      ["a", 100, 0],
      ["b", 60, 0.1],
    ]);
    expect(
      pointsOf(
        models,
        (one) => one.sizeBytes,
        (one) => one.decodeTokensPerS,
      ),
    ).toHaveLength(1);
  });
});

test("ticks are round and reach the top", () => {
  expect(ticksOf(98)).toEqual([0, 20, 40, 60, 80, 100]);
  expect(ticksOf(0)).toEqual([0, 0.2, 0.4, 0.6000000000000001, 0.8, 1]);
});

test("names of near points do not cover each other, and stay inside", () => {
  const [first, second, third] = labelsOf(
    [
      { label: "model-a", x: 10, y: 10 },
      { label: "model-b", x: 12, y: 12 },
      { label: "model-c", x: 195, y: 12 },
    ],
    200,
  );
  expect(Math.abs((first?.y ?? 0) - (second?.y ?? 0))).toBeGreaterThanOrEqual(16);
  expect(third?.anchor).toBe("end");
});
