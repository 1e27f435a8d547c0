import { type QueryClient, useQueryClient } from "@tanstack/react-query";
import { useLocation } from "wouter";
import { api, told } from "@/api/client";
import { Branches, type Turn } from "./branches";
import { type Asked, forget, type Generation, generate, generations } from "./generations";
import { collectionsOf, keepCollections, keepDraft, samplings } from "./preferences";
import { addExchange, type ContextPolicy, sessionQuery, sessionsQuery } from "./queries";

const SETTLE_TRIES = 12;
const SETTLE_MS = 200; // that a server takes to keep what was stopped, and then some

/** What a conversation that has not begun was set to. */
export interface Wished {
  model: string;
  persona: string | null;
  policy: ContextPolicy;
}

/** The ways to ask. Each returns when the answer has begun to be followed; what goes wrong is shown in its place. */
export function useAsking() {
  const queries = useQueryClient();
  const [, go] = useLocation();

  /** Begin a conversation. Raises Failure when it cannot be kept; nothing was asked then. */
  const begin = async (wished: Wished, text: string): Promise<void> => {
    const { model, persona, policy } = wished;
    const body = { model, context_policy: policy, ...(persona !== null && { persona }) };
    const session = await told(api.POST("/madang/v1/sessions", { body }));
    queries.setQueryData(sessionQuery(session.id).queryKey, { ...session, messages: [] });
    queries.setQueryData(sessionsQuery("").queryKey, (listed) => [
      { ...session, title: text.slice(0, 60) },
      ...(listed ?? []),
    ]);
    keepCollections(session.id, collectionsOf(""));
    keepDraft("", "");
    void run(queries, askedOf(session.id, model, text, null));
    go(`/chat/${session.id}`, { replace: true });
  };

  /** Ask after a turn; without a text, have the question that it is answered again. */
  const ask = (session: string, model: string, text: string | null, parent: string | null): void =>
    void run(queries, askedOf(session, model, text, parent));

  /** Ask again what failed. What the server kept of it is not asked twice. */
  const askAgain = async (failed: Generation): Promise<void> => {
    const { session, text, parent, model } = failed.asked;
    const known = await queries.fetchQuery({ ...sessionQuery(session), staleTime: 0 }).catch(() => null);
    const kept = known === null || text === null ? undefined : questionOf(known.messages, failed.asked);
    const again = askedOf(session, model, kept === undefined ? text : null, kept?.id ?? parent);
    void run(queries, again);
  };

  return { begin, ask, askAgain };
}

function askedOf(session: string, model: string, text: string | null, parent: string | null): Asked {
  const sampling = samplings.get()[model] ?? {};
  return { session, model, text, parent, collections: collectionsOf(session), sampling };
}

async function run(queries: QueryClient, asked: Asked): Promise<void> {
  const ended = await generate(asked);
  if (ended.state === "failed") {
    if (asked.text !== null) keepDraft(asked.session, asked.text); // there after a reload, too
    return;
  }
  keepDraft(asked.session, "");
  const isShown = ended.state === "done" && addExchange(queries, asked, ended.answer);
  if (isShown) forgetIf(ended);
  else await settled(queries, asked);
  if (!isShown) forgetIf(ended);
  void queries.invalidateQueries({ queryKey: sessionQuery(asked.session).queryKey });
  void queries.invalidateQueries({ queryKey: sessionsQuery("").queryKey.slice(0, 1) });
}

/** Unless something else was asked meanwhile. */
function forgetIf(ended: Generation): void {
  if (generations.get().get(ended.asked.session) === ended) forget(ended.asked.session);
}

/** Wait until the server has kept what it had answered when it was stopped. */
async function settled(queries: QueryClient, asked: Asked): Promise<void> {
  const before = new Set(queries.getQueryData(sessionQuery(asked.session).queryKey)?.messages.map((turn) => turn.id));
  for (let n = 0; n < SETTLE_TRIES; n += 1) {
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
    const now = await queries.fetchQuery({ ...sessionQuery(asked.session), staleTime: 0 }).catch(() => null);
    if (now?.messages.some((turn) => turn.role === "assistant" && !before.has(turn.id))) return;
  }
}

/** The question as it was kept, if it was; the newest of its kind. */
function questionOf(turns: readonly Turn[], asked: Asked): Turn | undefined {
  const isAsked = (turn: Turn) =>
    turn.role === "user" && turn.content === asked.text && (turn.parent ?? null) === asked.parent;
  const kept = turns.filter(isAsked).at(-1);
  if (kept === undefined) return undefined;
  // An answer that is whole belongs to an earlier asking of the same words.
  const end = new Branches(turns).end(kept.id);
  return turns.find((turn) => turn.id === end)?.state === "whole" && end !== kept.id ? undefined : kept;
}
