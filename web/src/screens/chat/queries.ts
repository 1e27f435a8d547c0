import { type QueryClient, queryOptions } from "@tanstack/react-query";
import { api, type Schemas, send, told } from "@/api/client";
import { failureOf, isRecord } from "@/api/failure";
import type { Answer } from "./chunks";
import { keepFacts } from "./facts";
import type { Asked } from "./generations";

export type Session = Schemas["SessionState"];
export type WholeSession = Schemas["WholeSession"];
export type ContextPolicy = Session["context_policy"];

const MOST_LISTED = 500;

export const sessionsQuery = (query: string) =>
  queryOptions({
    queryKey: ["sessions", query],
    queryFn: async () =>
      (await told(api.GET("/madang/v1/sessions", { params: { query: { query, limit: MOST_LISTED } } }))).sessions,
    placeholderData: (before: Session[] | undefined) => before,
  });

export const sessionQuery = (id: string) =>
  queryOptions({
    queryKey: ["session", id],
    queryFn: () => told(api.GET("/madang/v1/sessions/{id}", { params: { path: { id }, query: { branches: true } } })),
  });

export const modelsQuery = queryOptions({
  queryKey: ["models"],
  queryFn: async () => (await told(api.GET("/madang/v1/models"))).models,
});

export const modelQuery = (name: string) =>
  queryOptions({
    queryKey: ["model", name],
    queryFn: () => told(api.GET("/madang/v1/models/{name}", { params: { path: { name } } })),
    staleTime: 60_000,
  });

export const personasQuery = queryOptions({
  queryKey: ["personas"],
  queryFn: async () => (await told(api.GET("/madang/v1/personas"))).personas,
});

/** Names of the collections; none on a server that has no documents. */
export const collectionsQuery = queryOptions({
  queryKey: ["collections", "names"],
  queryFn: async (): Promise<string[]> => {
    const body = await json("/madang/v1/collections");
    const found = isRecord(body) && Array.isArray(body.collections) ? body.collections : [];
    return found.flatMap((one) => (isRecord(one) && typeof one.name === "string" ? [one.name] : []));
  },
  retry: false,
});

/** The whole text of a document that was cited. */
export const documentQuery = (collection: string, id: string) =>
  queryOptions({
    queryKey: ["document", collection, id],
    queryFn: async (): Promise<string> => {
      const path = `/madang/v1/collections/${encodeURIComponent(collection)}/documents/${encodeURIComponent(id)}`;
      const body = await json(path);
      return isRecord(body) && typeof body.text === "string" ? body.text : "";
    },
    staleTime: Number.POSITIVE_INFINITY, // what is cited does not change under its id
    retry: false,
  });

async function json(path: string): Promise<unknown> {
  const response = await send(path);
  const body: unknown = await response.json().catch(() => null);
  if (!response.ok) throw failureOf(body, response.status, response.headers.get("X-Request-Id"));
  return body;
}

/** Put a whole answer into the session that is shown, so that nothing blinks until it is read again. */
export function addExchange(queries: QueryClient, asked: Asked, answer: Answer): boolean {
  const { queryKey } = sessionQuery(asked.session);
  const session = queries.getQueryData(queryKey);
  const { message, question, facts } = answer;
  if (session === undefined || message === null) return false;
  if (facts !== null) keepFacts(message, facts);
  const said_at = new Date().toISOString();
  const plain = { reasoning: "", tool_calls: [], tool_call_id: null, name: null, created_at: said_at };
  const turns: Schemas["SessionMessage"][] = [];
  if (asked.text !== null && question !== null) {
    const state = { state: "whole" as const, model: null, facts: {} };
    turns.push({ ...plain, ...state, id: question, parent: asked.parent, role: "user", content: asked.text });
  }
  turns.push({
    ...plain,
    id: message,
    parent: turns[0]?.id ?? asked.parent,
    role: "assistant",
    content: answer.text,
    reasoning: answer.reasoning,
    tool_calls: answer.calls.map((call) => ({ ...call })),
    state: "whole",
    model: asked.model,
    facts: {},
  });
  const known = new Set(session.messages.map((turn) => turn.id));
  const added = turns.filter((turn) => !known.has(turn.id));
  queries.setQueryData(queryKey, { ...session, head: message, messages: [...session.messages, ...added] });
  return true;
}
