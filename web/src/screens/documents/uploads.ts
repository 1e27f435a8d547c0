import { send } from "@/api/client";
import { Failure, failureOf } from "@/api/failure";
import { Store } from "@/app/store";
import type { Ingest } from "./queries";

/** A file that was given to this page. What the server makes of it is the ingest's to tell. */
export interface Upload {
  key: string;
  collection: string;
  name: string;
  sizeBytes: number;
  state: "queued" | "sending" | "sent" | "refused" | "cancelled";
  ingest: string | null;
  failure: Failure | null;
}

/** What a row of the list says, of both together. */
export interface Progress {
  key: string;
  name: string;
  sizeBytes: number | null;
  state: "queued" | "sending" | Ingest["state"];
  ingest: string | null;
  nChunks: number | null;
  nEmbedded: number;
  problem: string | null;
}

/** They go on while another screen is shown. */
export const uploads = new Store<readonly Upload[]>([]);

// A browser keeps six connections to a server.
const MOST_AT_ONCE = 2;

const files = new Map<string, File>();
const stops = new Map<string, AbortController>();
let made = 0;

/** Send files into a collection, a few at a time. `onSent` hears of each that the server took. */
export function addFiles(collection: string, given: Iterable<File>, onSent: () => void): void {
  const added = [...given].map((file): Upload => {
    made += 1;
    const key = `upload-${made}`;
    files.set(key, file);
    return {
      key,
      collection,
      name: file.name,
      sizeBytes: file.size,
      state: "queued",
      ingest: null,
      failure: null,
    };
  });
  uploads.set([...uploads.get(), ...added]);
  sendNext(onSent);
}

export function cancelUpload(key: string): void {
  stops.get(key)?.abort();
  files.delete(key);
  change(key, (upload) => (upload.state === "sent" ? {} : { state: "cancelled" }));
}

/** Those that are over go from the list. */
export function putAway(keys: ReadonlySet<string>): void {
  uploads.set(uploads.get().filter((upload) => !keys.has(upload.key)));
}

function sendNext(onSent: () => void): void {
  const all = uploads.get();
  const free = MOST_AT_ONCE - all.filter((upload) => upload.state === "sending").length;
  for (const upload of all.filter((one) => one.state === "queued").slice(0, Math.max(0, free))) {
    void sendOne(upload, onSent).finally(() => sendNext(onSent));
  }
}

async function sendOne(upload: Upload, onSent: () => void): Promise<void> {
  const file = files.get(upload.key);
  if (file === undefined) return;
  const stop = new AbortController();
  stops.set(upload.key, stop);
  change(upload.key, () => ({ state: "sending" }));
  try {
    const place = `/madang/v1/collections/${encodeURIComponent(upload.collection)}/documents/`;
    const response = await send(place + encodeURIComponent(upload.name), {
      method: "PUT",
      body: file,
      headers: { "Content-Type": "application/octet-stream" },
      signal: stop.signal,
    });
    const body: unknown = await response.json().catch(() => null);
    if (!response.ok) throw failureOf(body, response.status, response.headers.get("X-Request-Id"));
    change(upload.key, () => ({ state: "sent", ingest: (body as Ingest).id }));
    onSent();
  } catch (error) {
    if (stop.signal.aborted) return;
    const failure =
      error instanceof Failure ? error : new Failure(error instanceof Error ? error.message : String(error));
    change(upload.key, () => ({ state: "refused", failure }));
  } finally {
    stops.delete(upload.key);
    files.delete(upload.key);
  }
}

function change(key: string, part: (upload: Upload) => Partial<Upload>): void {
  uploads.set(uploads.get().map((upload) => (upload.key === key ? { ...upload, ...part(upload) } : upload)));
}

/** A row for each file given here, and for each that came from elsewhere and is still under way. */
export function progressOf(collection: string, given: readonly Upload[], ingests: readonly Ingest[]): Progress[] {
  const own = given.filter((upload) => upload.collection === collection);
  const known = new Set(own.map((upload) => upload.ingest));
  const others = ingests.filter(
    (ingest) => ingest.collection === collection && !known.has(ingest.id) && !isOver(ingest.state),
  );
  return [
    ...own.map((upload) =>
      rowOf(
        upload,
        ingests.find((ingest) => ingest.id === upload.ingest),
      ),
    ),
    ...others.map((ingest) => ({ ...factsOf(ingest), key: ingest.id, name: ingest.name, sizeBytes: null })),
  ];
}

function rowOf(upload: Upload, ingest: Ingest | undefined): Progress {
  const row = { key: upload.key, name: upload.name, sizeBytes: upload.sizeBytes };
  if (ingest !== undefined) return { ...row, ...factsOf(ingest) };
  const state = {
    queued: "queued",
    sending: "sending",
    sent: "waiting",
    refused: "failed",
    cancelled: "cancelled",
  } as const;
  return {
    ...row,
    state: state[upload.state],
    ingest: upload.ingest,
    nChunks: null,
    nEmbedded: 0,
    problem: upload.failure?.message ?? null,
  };
}

function factsOf(ingest: Ingest): Omit<Progress, "key" | "name" | "sizeBytes"> {
  return {
    state: ingest.state,
    ingest: ingest.id,
    nChunks: ingest.n_chunks,
    nEmbedded: ingest.n_embedded,
    problem: ingest.error?.message ?? null,
  };
}

export function isOver(state: Progress["state"]): boolean {
  return state === "done" || state === "unchanged" || state === "failed" || state === "cancelled";
}
