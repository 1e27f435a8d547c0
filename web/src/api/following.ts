import { send } from "./client";
import { serverEvents } from "./events";
import { failureOf } from "./failure";

/** The states of work that goes on for a while (`…/events`), until it is over. Raises Failure, AbortError. */
export async function* follow<T>(path: string, signal: AbortSignal): AsyncGenerator<T, void> {
  const response = await send(path, { headers: { Accept: "text/event-stream" }, signal });
  if (!response.ok || response.body === null) {
    const body: unknown = await response.json().catch(() => null);
    throw failureOf(body, response.status, response.headers.get("X-Request-Id"));
  }
  for await (const event of serverEvents(response.body)) {
    const state: unknown = JSON.parse(event.data);
    if (typeof state === "object" && state !== null && "error" in state && !("state" in state)) {
      throw failureOf(state, null);
    }
    yield state as T;
  }
}
