import createClient from "openapi-fetch";
import { apiKey, authorization, keyWanted } from "./access";
import { connection } from "./connection";
import { Failure, failureOf, UNREACHABLE } from "./failure";
import type { components, paths } from "./schema";

export type Schemas = components["schemas"];

/** `fetch` with the key, which says what it learns of the server. Raises Failure; a stopped request raises AbortError. */
export async function send(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
  const request = new Request(input, init);
  for (const [name, value] of Object.entries(authorization())) request.headers.set(name, value);
  let response: Response;
  try {
    response = await fetch(request);
  } catch (error) {
    if (request.signal.aborted) throw error;
    connection.set("gone");
    throw new Failure("The server does not answer.", { code: UNREACHABLE });
  }
  if (response.status === 401) keyWanted.set(apiKey.get() === null ? "missing" : "wrong");
  else if (connection.get() === "gone") connection.set("ok");
  return response;
}

export const api = createClient<paths>({ baseUrl: origin(), fetch: send });

function origin(): string {
  return typeof location === "undefined" ? "http://localhost" : location.origin;
}

interface Answer<T> {
  data?: T | undefined;
  error?: unknown;
  response: Response;
}

/** The body of a good answer. Raises Failure for any other. */
export async function told<T>(answer: Promise<Answer<T>>): Promise<T> {
  const { data, error, response } = await answer;
  if (!response.ok) throw failureOf(error, response.status, response.headers.get("X-Request-Id"));
  return data as T;
}
