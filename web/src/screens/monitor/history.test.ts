import { expect, test } from "vitest";
import { KEPT_MS, lineOf, type Metrics, type Sample, sampleOf, withSample } from "./history";

const model = { prompt_tokens: 60, cached_tokens: 15, tokens_per_s: 2 };
const metrics = {
  running: 1,
  waiting: 2,
  models: { a: model, b: { ...model, prompt_tokens: 0, cached_tokens: 0, tokens_per_s: 3.5 } },
  memory: { process_bytes: 5, machine_total_bytes: 100, machine_available_bytes: 30 },
} as unknown as Metrics;

test("a look sums up the models", () => {
  expect(sampleOf(metrics, 7)).toEqual({
    atMs: 7,
    tokensPerS: 5.5,
    running: 1,
    waiting: 2,
    processBytes: 5,
    usedBytes: 70,
    cacheHitShare: 0.25,
  });
  expect(sampleOf({ ...metrics, models: {} }, 0).cacheHitShare).toBeNull();
});

test("the past is kept for minutes only", () => {
  let samples: readonly Sample[] = [];
  for (const atMs of [0, 1000, KEPT_MS + 500]) samples = withSample(samples, sampleOf(metrics, atMs));
  expect(samples.map((one) => one.atMs)).toEqual([1000, KEPT_MS + 500]);
});

test("a line ends now, and has a gap where nobody looked", () => {
  const size = { width: 100, height: 12 };
  const points = [0, 1000, KEPT_MS].map((atMs, index) => ({ atMs, value: index }));
  expect(lineOf(points, KEPT_MS, size, 5000)).toBe("M0.0 11.0L0.3 6.0M100.0 1.0");
});

test("a line that is younger than a minute does not fill the width", () => {
  expect(lineOf([{ atMs: 0, value: 1 }], 30_000, { width: 100, height: 12 }, 1)).toBe("M50.0 1.0");
});

test("nothing but zeros is a line at the bottom", () => {
  expect(lineOf([{ atMs: 0, value: 0 }], 0, { width: 10, height: 12 }, 1)).toBe("M10.0 11.0");
});
