import { isRecord } from "@/api/failure";
import { persisted, recalled, remember } from "@/app/store";

/** Fields of a request that people set. What is not in the record is unset: the model's own value holds. */
export const SAMPLING = {
  temperature: { least: 0, most: 2, step: 0.05, isWhole: false },
  top_p: { least: 0, most: 1, step: 0.05, isWhole: false },
  top_k: { least: 0, most: 1000, step: 1, isWhole: true },
  min_p: { least: 0, most: 1, step: 0.01, isWhole: false },
  repeat_penalty: { least: 0.01, most: 10, step: 0.05, isWhole: false },
  max_tokens: { least: 0, most: 1_048_576, step: 64, isWhole: true },
  seed: { least: 0, most: Number.MAX_SAFE_INTEGER, step: 1, isWhole: true },
} as const;

export type SamplingName = keyof typeof SAMPLING;
export type Sampling = Readonly<Partial<Record<SamplingName, number>>>;

export const SAMPLING_NAMES = Object.keys(SAMPLING) as SamplingName[];

/** Undefined for a text that is no number within the bounds; empty is null, unset. */
export function readNumber(name: SamplingName, text: string): number | null | undefined {
  const trimmed = text.trim().replace(",", ".");
  if (trimmed === "") return null;
  const value = Number(trimmed);
  const { least, most, isWhole } = SAMPLING[name];
  return Number.isFinite(value) && value >= least && value <= most && (!isWhole || Number.isInteger(value))
    ? value
    : undefined;
}

/** What was set for each model. */
export const samplings = persisted<Readonly<Record<string, Sampling>>>("sampling", {}, (value) => {
  if (!isRecord(value)) return undefined;
  return Object.fromEntries(Object.entries(value).filter(([, one]) => isRecord(one))) as Record<string, Sampling>;
});

/** The same sampling with one field set, or unset by null. */
export function withNumber(sampling: Sampling, name: SamplingName, value: number | null): Sampling {
  const { [name]: _, ...others } = sampling;
  return value === null ? others : { ...others, [name]: value };
}

/** The model of the last conversation, for the next one. */
export const lastModel = persisted<string | null>("model", null, (value) =>
  typeof value === "string" ? value : undefined,
);

/** What was typed and not sent, by session; "" is a conversation that has not begun. */
export function draftOf(session: string): string {
  return recalled(`draft.${session}`, (value) => (typeof value === "string" ? value : undefined)) ?? "";
}

export function keepDraft(session: string, text: string): void {
  remember(`draft.${session}`, text === "" ? null : text);
}

/** The collections that a session's questions are answered from. */
export function collectionsOf(session: string): string[] {
  return (
    recalled(`collections.${session}`, (value) =>
      Array.isArray(value) ? value.filter((item): item is string => typeof item === "string") : undefined,
    ) ?? []
  );
}

export function keepCollections(session: string, names: readonly string[]): void {
  remember(`collections.${session}`, names.length === 0 ? null : names);
}
