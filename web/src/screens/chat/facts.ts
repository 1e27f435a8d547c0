import { isRecord } from "@/api/failure";

/** A passage that an answer stands on; `n` is the number it is cited by. Offsets are characters of the document. */
export interface Source {
  n: number;
  collection: string;
  chunk: string;
  document: string;
  title: string;
  headings: readonly string[];
  page: number | null;
  start: number;
  end: number;
  text: string;
  score: number | null;
}

/** What is known of an answer. Null is unknown; times in seconds. */
export interface Facts {
  finishReason: string | null;
  contextTokens: number | null;
  receivedTokens: number | null;
  cachedTokens: number | null;
  keptTokens: number | null;
  droppedTokens: number | null;
  generatedTokens: number | null;
  droppedMessages: number;
  summarisedMessages: number;
  firstTokenS: number | null;
  tokensPerS: number | null;
  loadS: number | null;
  seed: string | null;
  warnings: readonly string[];
  sources: readonly Source[];
  /** False where nothing relevant was found, so that no answer was tried. */
  isGrounded: boolean | null;
}

/** Of the last chunk of a stream, or of a whole answer: its `madang` and `timings` objects. */
export function factsOfAnswer(madang: unknown, timings: unknown, finishReason: string | null): Facts {
  const told = isRecord(madang) ? madang : {};
  const speed = isRecord(timings) ? timings : {};
  const promptMs = number(speed.prompt_ms);
  return {
    ...ledgerOf(told),
    finishReason,
    firstTokenS: promptMs === null ? null : promptMs / 1000,
    tokensPerS: number(speed.predicted_per_second),
    loadS: null,
    seed: seedOf(told.seed),
    warnings: strings(told.warnings),
    ...groundsOf(told),
  };
}

// Of answers that came while this page was open: a kept turn does not tell all of it.
const live = new Map<string, Facts>();

export function keepFacts(message: string, facts: Facts): void {
  live.set(message, facts);
}

/** Of a turn; null where nothing is known, as of what was imported. */
export function factsOf(turn: { id: string; facts: Readonly<Record<string, unknown>> }): Facts | null {
  return live.get(turn.id) ?? factsOfTurn(turn.facts);
}

/** Of a turn as it was kept. */
export function factsOfTurn(facts: Readonly<Record<string, unknown>>): Facts | null {
  if (!isRecord(facts.timings) || !isRecord(facts.ledger)) return null;
  const timings = facts.timings;
  const decodeTokens = number(timings.decode_tokens);
  const decodeS = number(timings.decode_s);
  return {
    ...ledgerOf(facts.ledger),
    finishReason: typeof facts.finish_reason === "string" ? facts.finish_reason : null,
    firstTokenS: number(timings.time_to_first_token_s),
    tokensPerS:
      decodeTokens !== null && decodeTokens > 0 && decodeS !== null && decodeS > 0 ? decodeTokens / decodeS : null,
    loadS: number(timings.load_s),
    seed: seedOf(facts.seed),
    warnings: [],
    ...groundsOf(facts),
  };
}

function ledgerOf(ledger: Record<string, unknown>) {
  return {
    contextTokens: number(ledger.n_ctx),
    receivedTokens: number(ledger.received_tokens),
    cachedTokens: number(ledger.cached_tokens),
    keptTokens: number(ledger.kept_tokens),
    droppedTokens: number(ledger.dropped_tokens),
    generatedTokens: number(ledger.generated_tokens),
    droppedMessages: number(ledger.dropped_messages) ?? 0,
    summarisedMessages: number(ledger.summarised_messages) ?? 0,
  };
}

function groundsOf(told: Record<string, unknown>): Pick<Facts, "sources" | "isGrounded"> {
  const sources = Array.isArray(told.sources) ? told.sources.filter(isSource) : [];
  return { sources, isGrounded: typeof told.is_grounded === "boolean" ? told.is_grounded : null };
}

function isSource(value: unknown): value is Source {
  return (
    isRecord(value) && typeof value.n === "number" && typeof value.text === "string" && typeof value.title === "string"
  );
}

function number(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

/** Seeds have 64 bits, of which a number here holds 53: only small ones are shown as they were. */
function seedOf(value: unknown): string | null {
  return typeof value === "number" && Number.isSafeInteger(value) ? String(value) : null;
}

function strings(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
}
