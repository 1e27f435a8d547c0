import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import { follow } from "@/api/following";
import { type Pull, pullsQuery } from "./queries";

// A browser keeps six connections to a server; the rest of the page needs some.
const MOST_FOLLOWED = 2;
const LOOK_MS = 1500;
const NONE: readonly Pull[] = [];

/** All downloads, the latest first, as they change. When one is whole, what lists models looks again. */
export function usePulls(): readonly Pull[] {
  const queries = useQueryClient();
  const list = useQuery({
    ...pullsQuery,
    refetchInterval: (query) => (query.state.data?.pulls.some(isRunning) ? LOOK_MS : false),
  });
  const pulls = list.data?.pulls ?? NONE;
  const followed = pulls.filter(isRunning).slice(0, MOST_FOLLOWED);
  useFollowed(followed.map((pull) => pull.id).join(" "));
  const nFinished = pulls.filter((pull) => pull.state === "done").length;
  useEffect(() => {
    if (nFinished === 0) return;
    for (const key of ["models", "catalog", "recommendations"]) void queries.invalidateQueries({ queryKey: [key] });
  }, [nFinished, queries]);
  return pulls;
}

/** Have the list show each change of these; the ids as one text, so that only others begin again. */
function useFollowed(ids: string): void {
  const queries = useQueryClient();
  useEffect(() => {
    const stop = new AbortController();
    const show = async (id: string) => {
      for await (const state of follow<Pull>(`/madang/v1/pulls/${encodeURIComponent(id)}/events`, stop.signal)) {
        queries.setQueryData(pullsQuery.queryKey, (all) => all && { pulls: all.pulls.map(replacedBy(state)) });
      }
    };
    // What breaks is looked at again with the list.
    for (const id of ids.split(" ").filter(Boolean)) show(id).catch(() => undefined);
    return () => stop.abort();
  }, [ids, queries]);
}

export function isRunning(pull: Pull): boolean {
  return pull.state === "starting" || pull.state === "pulling";
}

function replacedBy(state: Pull): (pull: Pull) => Pull {
  return (pull) => (pull.id === state.id ? state : pull);
}

export interface Rate {
  bytesPerS: number;
  leftS: number | null;
}

/** How fast it comes, of what was seen in the last seconds; null until that says something. */
export class RateMeter {
  #seen: { atMs: number; bytes: number }[] = [];
  static readonly WINDOW_MS = 5000;

  see(atMs: number, bytes: number): void {
    const last = this.#seen.at(-1);
    // A source that begins a file again counts from there.
    if (last !== undefined && bytes < last.bytes) this.#seen = [];
    this.#seen.push({ atMs, bytes });
    while (this.#seen.length > 2 && atMs - (this.#seen[0]?.atMs ?? atMs) > RateMeter.WINDOW_MS) this.#seen.shift();
  }

  rate(totalBytes: number | null): Rate | null {
    const first = this.#seen[0];
    const last = this.#seen.at(-1);
    if (first === undefined || last === undefined || last.atMs - first.atMs < 300) return null;
    const bytesPerS = ((last.bytes - first.bytes) * 1000) / (last.atMs - first.atMs);
    if (bytesPerS <= 0) return null;
    return { bytesPerS, leftS: totalBytes === null ? null : (totalBytes - last.bytes) / bytesPerS };
  }
}
