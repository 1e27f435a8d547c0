import { queryOptions } from "@tanstack/react-query";
import { api, type Schemas, told } from "@/api/client";

export type Collection = Schemas["CollectionState"];
export type StoredDocument = Schemas["DocumentState"];
export type WholeDocument = Schemas["WholeDocumentState"];
export type Ingest = Schemas["IngestProgress"];
export type SearchAnswer = Schemas["SearchState"];
export type Hit = Schemas["HitState"];
export type Mode = "hybrid" | "dense" | "lexical";

export const collectionsQuery = queryOptions({
  queryKey: ["collections"],
  queryFn: ({ signal }) => told(api.GET("/madang/v1/collections", { signal })),
});

export function documentsQuery(name: string) {
  return queryOptions({
    queryKey: ["collections", name, "documents"],
    queryFn: ({ signal }) =>
      told(api.GET("/madang/v1/collections/{name}/documents", { params: { path: { name } }, signal })),
  });
}

export function documentQuery(name: string, id: string) {
  return queryOptions({
    queryKey: ["collections", name, "documents", id],
    queryFn: ({ signal }) =>
      told(api.GET("/madang/v1/collections/{name}/documents/{id}", { params: { path: { name, id } }, signal })),
  });
}

export function searchQuery(name: string, query: string, mode: Mode) {
  return queryOptions({
    queryKey: ["collections", name, "search", mode, query],
    queryFn: ({ signal }) =>
      told(
        api.POST("/madang/v1/collections/{name}/search", {
          params: { path: { name } },
          body: { query, mode, limit: 10 },
          signal,
        }),
      ),
    enabled: query !== "",
  });
}

export const ingestsQuery = queryOptions({
  queryKey: ["ingests"],
  queryFn: ({ signal }) => told(api.GET("/madang/v1/ingests", { signal })),
});

/** Where a collection, a document of it, or a passage is shown. */
export function placeOf(collection: string, document?: string, chunk?: string): string {
  const parts = ["/documents", encodeURIComponent(collection)];
  if (document !== undefined) parts.push(encodeURIComponent(document));
  return parts.join("/") + (chunk === undefined ? "" : `#${encodeURIComponent(chunk)}`);
}
