import { Store } from "@/app/store";

/** Whether the server answers. Every request says what it saw; the banner asks again until it is back. */
export const connection = new Store<"ok" | "stopping" | "gone">("ok");

/** What the server says of its database; "ok" while conversations are kept. */
export const historyState = new Store<string>("ok");

/** Ask once. */
export async function look(): Promise<void> {
  try {
    const answer = await fetch("/ready", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    const body: unknown = await answer.json();
    connection.set(answer.ok ? "ok" : "stopping");
    if (typeof body === "object" && body !== null && "history" in body && typeof body.history === "string") {
      historyState.set(body.history);
    }
  } catch {
    connection.set("gone");
  }
}
