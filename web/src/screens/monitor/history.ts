import type { Schemas } from "@/api/client";

export type Metrics = Schemas["Metrics"];

/** One look at the server. */
export interface Sample {
  atMs: number;
  tokensPerS: number;
  running: number;
  waiting: number;
  processBytes: number;
  usedBytes: number;
  /** Of the tokens of all prompts since the start; null before the first. */
  cacheHitShare: number | null;
}

export const KEPT_MS = 5 * 60_000;
const SHORTEST_MS = 60_000;

export function sampleOf(metrics: Metrics, atMs: number): Sample {
  const models = Object.values(metrics.models);
  const total = (of: (one: (typeof models)[number]) => number) => models.reduce((sum, one) => sum + of(one), 0);
  const promptTokens = total((one) => one.prompt_tokens);
  return {
    atMs,
    tokensPerS: total((one) => one.tokens_per_s),
    running: metrics.running,
    waiting: metrics.waiting,
    processBytes: metrics.memory.process_bytes,
    usedBytes: metrics.memory.machine_total_bytes - metrics.memory.machine_available_bytes,
    cacheHitShare: promptTokens === 0 ? null : total((one) => one.cached_tokens) / promptTokens,
  };
}

/** With one more; those of long ago go. */
export function withSample(samples: readonly Sample[], sample: Sample): readonly Sample[] {
  return [...samples.filter((one) => sample.atMs - one.atMs <= KEPT_MS), sample];
}

/**
 * A line through the values. The width is the time since the first of them, or the shortest that is drawn; where nobody
 * looked for long, it has a gap.
 */
export function lineOf(
  points: readonly { atMs: number; value: number }[],
  nowMs: number,
  size: { width: number; height: number },
  gapMs: number,
): string {
  const most = Math.max(...points.map((point) => point.value), Number.MIN_VALUE);
  const spanMs = Math.max(SHORTEST_MS, nowMs - (points[0]?.atMs ?? nowMs));
  const parts: string[] = [];
  let before: number | null = null;
  for (const { atMs, value } of points) {
    const x = size.width * (1 - (nowMs - atMs) / spanMs);
    const y = size.height - 1 - (size.height - 2) * (value / most);
    parts.push(`${before === null || atMs - before > gapMs ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`);
    before = atMs;
  }
  return parts.join("");
}
