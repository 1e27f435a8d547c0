import { queryOptions, useMutation, useQueryClient } from "@tanstack/react-query";
import { api, type Schemas, send, told } from "@/api/client";
import { failureOf } from "@/api/failure";

export type Model = Schemas["Model"];
export type Resident = Schemas["ResidentModel"];
export type Pull = Schemas["PullState"];
export type CatalogModel = Schemas["CatalogModel"];
export type Recommendation = Schemas["Recommendation"];

const RESIDENT_MS = 5000;

export const modelsQuery = queryOptions({
  queryKey: ["models"],
  queryFn: ({ signal }) => told(api.GET("/madang/v1/models", { signal })),
});

export const residentQuery = queryOptions({
  queryKey: ["resident"],
  queryFn: ({ signal }) => told(api.GET("/madang/v1/resident", { signal })),
  refetchInterval: RESIDENT_MS, // they go by themselves
});

export const catalogQuery = queryOptions({
  queryKey: ["catalog"],
  queryFn: ({ signal }) => told(api.GET("/madang/v1/catalog", { signal })),
  staleTime: 60_000,
});

export const machineQuery = queryOptions({
  queryKey: ["machine"],
  queryFn: ({ signal }) => told(api.GET("/madang/v1/machine", { signal })),
});

export const pullsQuery = queryOptions({
  queryKey: ["pulls"],
  queryFn: ({ signal }) => told(api.GET("/madang/v1/pulls", { signal })),
});

export function planQuery(name: string) {
  return queryOptions({
    queryKey: ["plan", name],
    queryFn: ({ signal }) => told(api.GET("/madang/v1/plans/{name}", { params: { path: { name } }, signal })),
    staleTime: 0, // of what is free now
  });
}

export interface Wish {
  task: string;
  memory_bytes: number | null;
  license: string;
  language: string | null;
  speed_tokens_s: number | null;
}

export function recommendationsQuery(wish: Wish) {
  return queryOptions({
    queryKey: ["recommendations", wish],
    queryFn: ({ signal }) =>
      told(api.GET("/madang/v1/recommendations", { params: { query: { ...stated(wish), limit: 10 } }, signal })),
  });
}

function stated(wish: Wish) {
  return {
    task: wish.task,
    license: wish.license,
    ...(wish.memory_bytes !== null && { memory_bytes: wish.memory_bytes }),
    ...(wish.language !== null && { language: wish.language }),
    ...(wish.speed_tokens_s !== null && { speed_tokens_s: wish.speed_tokens_s }),
  };
}

/** Downloads whose end is news here: begun from this page, or seen under way. Others were over before. */
export const watched = new Set<string>();

/** Begin a download, or join it. */
export function usePull() {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: (model: string) => told(api.POST("/madang/v1/pulls", { body: { model } })),
    onSuccess: (pull) => watched.add(pull.id), // it may be over before the list shows it
    onSettled: () => queries.invalidateQueries({ queryKey: pullsQuery.queryKey }),
  });
}

/** Into memory. A request without a prompt loads what it names; embedding models have a way of their own. */
export function useLoad() {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: async (model: Model) => {
      const isChat = model.capabilities.includes("completion");
      const response = await send(isChat ? "/api/generate" : "/api/embed", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(isChat ? { model: model.name, stream: false } : { model: model.name, input: "." }),
      });
      const body: unknown = await response.json().catch(() => null);
      if (!response.ok) throw failureOf(wrapped(body), response.status, response.headers.get("X-Request-Id"));
    },
    onSettled: () => queries.invalidateQueries({ queryKey: residentQuery.queryKey }),
  });
}

/** Failures of these two routes have Ollama's shape: `{"error": "sentence"}`. */
function wrapped(body: unknown): unknown {
  const isPlain = typeof body === "object" && body !== null && "error" in body && typeof body.error === "string";
  return isPlain ? { error: { message: (body as { error: string }).error } } : body;
}

export function useUnload() {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: (name: string) => told(api.DELETE("/madang/v1/resident/{name}", { params: { path: { name } } })),
    onSettled: () => queries.invalidateQueries({ queryKey: residentQuery.queryKey }),
  });
}

export function useRemove() {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: (name: string) => told(api.DELETE("/madang/v1/models/{name}", { params: { path: { name } } })),
    onSuccess: () =>
      Promise.all(["models", "resident", "catalog"].map((key) => queries.invalidateQueries({ queryKey: [key] }))),
  });
}
