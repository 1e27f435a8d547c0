import { send } from "@/api/client";
import { serverEvents } from "@/api/events";
import { Failure, failureOf, UNREACHABLE } from "@/api/failure";
import { Store } from "@/app/store";
import { type Answer, NOTHING_YET, withEvent } from "./chunks";

/** What is asked. Without a text, the question that `parent` leads to is answered again. */
export interface Asked {
  session: string;
  model: string;
  text: string | null;
  /** The turn that comes before it; null is none. */
  parent: string | null;
  collections: readonly string[];
  sampling: Readonly<Record<string, number>>;
}

export interface Generation {
  asked: Asked;
  answer: Answer;
  state: "waiting" | "answering" | "done" | "stopped" | "failed";
}

/** An answer that is being given, by session. It goes on while another screen is shown. */
export const generations = new Store<ReadonlyMap<string, Generation>>(new Map());

const stops = new Map<string, AbortController>();
const PAINT_MS = 40; // between updates of the page; tokens come faster

export function isRunning(generation: Generation | undefined): boolean {
  return generation?.state === "waiting" || generation?.state === "answering";
}

/** Ask, and follow the answer to its end. Gives how it ended, and never raises. */
export async function generate(asked: Asked): Promise<Generation> {
  stops.get(asked.session)?.abort();
  const stop = new AbortController();
  stops.set(asked.session, stop);
  let now: Generation = { asked, answer: NOTHING_YET, state: "waiting" };
  const show = (more: Partial<Generation>) => {
    now = { ...now, ...more };
    put(asked.session, now);
  };
  show({});
  const paint = throttled(PAINT_MS, (answer: Answer) => show({ answer, state: "answering" }));
  let answer = NOTHING_YET;
  try {
    const response = await send("/v1/chat/completions", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(requestOf(asked)),
      signal: stop.signal,
    });
    if (!response.ok || response.body === null) throw await refusalOf(response);
    for await (const event of serverEvents(response.body)) {
      answer = withEvent(answer, event.data);
      if (answer.failure !== null) throw answer.failure;
      paint(answer);
    }
    if (!answer.isWhole) throw new Failure("The server went away in the middle of the answer.", { code: UNREACHABLE });
    paint.end();
    show({ answer, state: "done" });
  } catch (error) {
    paint.end();
    if (stop.signal.aborted) show({ answer, state: "stopped" });
    else show({ answer: { ...answer, failure: failureFrom(error) }, state: "failed" });
  } finally {
    if (stops.get(asked.session) === stop) stops.delete(asked.session);
  }
  return now;
}

/** Stop what is being answered; what has come stays. */
export function stop(session: string): void {
  stops.get(session)?.abort();
}

/** Show it no more: it is part of the session now, or is asked again. */
export function forget(session: string): void {
  const left = new Map(generations.get());
  if (left.delete(session)) generations.set(left);
}

/** The body of the request. What is unset is not sent: the model's own value holds then, and 0 is a value. */
export function requestOf(asked: Asked): Record<string, unknown> {
  const collections = asked.collections.length === 0 ? {} : { collection: asked.collections };
  return {
    model: asked.model,
    stream: true,
    messages: asked.text === null ? [] : [{ role: "user", content: asked.text }],
    madang: { session: asked.session, parent: asked.parent ?? "", ...collections },
    ...asked.sampling,
  };
}

function put(session: string, generation: Generation): void {
  generations.set(new Map(generations.get()).set(session, generation));
}

async function refusalOf(response: Response): Promise<Failure> {
  const body: unknown = await response.json().catch(() => null);
  return failureOf(body, response.status, response.headers.get("X-Request-Id"));
}

function failureFrom(error: unknown): Failure {
  if (error instanceof Failure) return error;
  // A connection that breaks in the middle of a body is a TypeError.
  if (error instanceof TypeError) return new Failure(error.message, { code: UNREACHABLE });
  return new Failure(error instanceof Error ? error.message : String(error));
}

/** The last of many calls, at most one each `ms`; the first at once. A timer, since frames stop in hidden tabs. */
function throttled<T>(ms: number, act: (value: T) => void): ((value: T) => void) & { end: () => void } {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let latest: T;
  let isWaiting = false;
  const tick = () => {
    timer = undefined;
    if (!isWaiting) return;
    isWaiting = false;
    act(latest);
    timer = setTimeout(tick, ms);
  };
  const call = (value: T) => {
    latest = value;
    isWaiting = true;
    if (timer === undefined) tick();
  };
  return Object.assign(call, { end: () => clearTimeout(timer) });
}
