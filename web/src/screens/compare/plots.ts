import { isRecord } from "@/api/failure";

/** A figure with the bounds of what it may truly be; null is unknown. */
export interface Estimate {
  value: number;
  low: number | null;
  high: number | null;
}

/** One model of a comparison, of what `madang compare --json` writes. Null was not measured. */
export interface Measured {
  label: string;
  isReference: boolean;
  failed: string | null;
  sizeBytes: number | null;
  memoryBytes: number | null;
  decodeTokensPerS: Estimate | null;
  promptTokensPerS: Estimate | null;
  firstTokenS: Estimate | null;
  /** By text. */
  perplexity: Readonly<Record<string, Estimate>>;
  kl: Estimate | null;
  agreement: Estimate | null;
}

export function measuredOf(result: Readonly<Record<string, unknown>>): Measured[] {
  const models = Array.isArray(result.models) ? result.models.filter(isRecord) : [];
  return models.map((model) => {
    const speed = record(model.speed);
    const against = record(record(model.against_reference).divergence);
    const isReference = model.label === result.reference;
    return {
      label: String(model.label),
      isReference,
      failed: typeof model.failed === "string" ? model.failed : null,
      sizeBytes: number(model.size_bytes),
      memoryBytes: number(record(model.memory).peak_bytes),
      decodeTokensPerS: spread(record(speed.decode).tokens_per_s),
      promptTokensPerS: spread(record(speed.prompt).tokens_per_s),
      firstTokenS: spread(speed.time_to_first_token_s),
      perplexity: Object.fromEntries(
        Object.entries(record(model.text)).flatMap(([text, figures]) => {
          const found = estimate(record(figures).perplexity);
          return found === null ? [] : [[text, found]];
        }),
      ),
      // A model differs from itself by nothing.
      kl:
        estimate(against.mean_kl) ?? (isReference && model.text !== null ? { value: 0, low: null, high: null } : null),
      agreement: estimate(against.top_1_agreement),
    };
  });
}

export interface Point {
  label: string;
  x: number;
  y: number;
  low: number | null;
  high: number | null;
}

/** Those with both figures. */
export function pointsOf(
  models: readonly Measured[],
  x: (model: Measured) => number | null,
  y: (model: Measured) => Estimate | null,
): Point[] {
  return models.flatMap((model) => {
    const across = x(model);
    const up = y(model);
    return across === null || up === null
      ? []
      : [{ label: model.label, x: across, y: up.value, low: up.low, high: up.high }];
  });
}

const N_TICKS = 5;

/** Round numbers from 0 to at least `most`. */
export function ticksOf(most: number): number[] {
  const rough = (most > 0 && Number.isFinite(most) ? most : 1) / N_TICKS;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough * (1 - 1e-9)) ?? 10) * power;
  const n = Math.ceil((most > 0 && Number.isFinite(most) ? most : 1) / step - 1e-9);
  return Array.from({ length: n + 1 }, (_, index) => index * step);
}

export interface Label {
  x: number;
  y: number;
  anchor: "start" | "end";
}

const LINE = 16;

/**
 * Where the name of each point goes: beside it, on the side where there is room, and lower where another is already.
 * `width` is of the plot; a character is about 7 wide.
 */
export function labelsOf(points: readonly { label: string; x: number; y: number }[], width: number): Label[] {
  const taken: { from: number; to: number; y: number }[] = [];
  return points.map((point) => {
    const long = point.label.length * 7;
    const isRight = point.x + 12 + long <= width;
    const from = isRight ? point.x + 12 : point.x - 12 - long;
    let y = point.y + 4;
    while (taken.some((one) => one.from < from + long && from < one.to && Math.abs(one.y - y) < LINE)) y += LINE;
    taken.push({ from, to: from + long, y });
    return { x: isRight ? point.x + 12 : point.x - 12, y, anchor: isRight ? "start" : "end" };
  });
}

function record(value: unknown): Record<string, unknown> {
  return isRecord(value) ? value : {};
}

function number(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

function estimate(value: unknown): Estimate | null {
  const { value: found, low, high } = record(value);
  const middle = number(found);
  return middle === null ? null : { value: middle, low: number(low), high: number(high) };
}

function spread(value: unknown): Estimate | null {
  const { median, min, max } = record(value);
  const middle = number(median);
  return middle === null ? null : { value: middle, low: number(min), high: number(max) };
}
