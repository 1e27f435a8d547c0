import { send } from "@/api/client";
import { serverEvents } from "@/api/events";
import { Failure, failureOf, UNREACHABLE } from "@/api/failure";
import { Store } from "@/app/store";
import { type Answer, NOTHING_YET, withEvent } from "../chat/chunks";

/** What all of them are asked. */
export interface Question {
  prompt: string;
  models: readonly string[];
  /** One after the other, so that none shares the machine. */
  isOneByOne: boolean;
  isGreedy: boolean;
  maxTokens: number;
}

export interface Lane {
  model: string;
  state: "queued" | "waiting" | "answering" | "done" | "stopped" | "failed";
  answer: Answer;
}

/** The answers to the last question, in the order of its models. They go on while another screen is shown. */
export const lanes = new Store<readonly Lane[]>([]);

const PAINT_MS = 60;
let stops = new Map<string, AbortController>();

/** Ask all of them; what was asked before stops. Gives when the last one is over, and never raises. */
export async function contest(question: Question): Promise<void> {
  stopAll();
  stops = new Map(question.models.map((model) => [model, new AbortController()]));
  const mine = stops;
  lanes.set(question.models.map((model) => ({ model, state: "queued", answer: NOTHING_YET })));
  const change = (model: string, part: Partial<Lane>) => {
    if (mine !== stops) return; // of a question before
    lanes.set(lanes.get().map((lane) => (lane.model === model ? { ...lane, ...part } : lane)));
  };
  const ask = (model: string) => {
    const stop = mine.get(model) as AbortController;
    return answerOf(question, model, stop.signal, (part) => change(model, part));
  };
  if (!question.isOneByOne) {
    await Promise.all(question.models.map(ask));
    return;
  }
  for (const model of question.models) await ask(model);
}

export function stopAll(): void {
  for (const stop of stops.values()) stop.abort();
}

export function stopOne(model: string): void {
  stops.get(model)?.abort();
}

export function isRunning(lane: Lane): boolean {
  return lane.state === "queued" || lane.state === "waiting" || lane.state === "answering";
}

/** Of those that are over, the one that answered with the most tokens a second; null unless two can be compared. */
export function fastestOf(all: readonly Lane[]): string | null {
  const timed = all.flatMap(({ model, state, answer }) => {
    const rate = state === "done" ? (answer.facts?.tokensPerS ?? null) : null;
    return rate === null ? [] : [{ model, rate }];
  });
  if (timed.length < 2 || timed.length < all.length) return null;
  return timed.reduce((best, one) => (one.rate > best.rate ? one : best)).model;
}

async function answerOf(
  question: Question,
  model: string,
  signal: AbortSignal,
  show: (part: Partial<Lane>) => void,
): Promise<void> {
  let answer = NOTHING_YET;
  if (signal.aborted) return show({ state: "stopped" });
  show({ state: "waiting" });
  try {
    const response = await send("/v1/chat/completions", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({
        model,
        stream: true,
        messages: [{ role: "user", content: question.prompt }],
        max_tokens: question.maxTokens,
        ...(question.isGreedy && { temperature: 0 }),
      }),
      signal,
    });
    if (!response.ok || response.body === null) {
      const body: unknown = await response.json().catch(() => null);
      throw failureOf(body, response.status, response.headers.get("X-Request-Id"));
    }
    let paintedMs = 0;
    for await (const event of serverEvents(response.body)) {
      answer = withEvent(answer, event.data);
      if (answer.failure !== null) throw answer.failure;
      if (performance.now() - paintedMs < PAINT_MS) continue;
      paintedMs = performance.now();
      show({ state: "answering", answer });
    }
    if (!answer.isWhole) throw new Failure("The server went away in the middle of the answer.", { code: UNREACHABLE });
    show({ state: "done", answer });
  } catch (error) {
    if (signal.aborted) return show({ state: "stopped", answer });
    const failure =
      error instanceof Failure ? error : new Failure(error instanceof Error ? error.message : String(error));
    show({ state: "failed", answer: { ...answer, failure } });
  }
}
