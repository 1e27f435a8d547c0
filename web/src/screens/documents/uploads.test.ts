import { describe, expect, test } from "vitest";
import { Failure } from "@/api/failure";
import type { Ingest } from "./queries";
import { isOver, progressOf, type Upload } from "./uploads";

const upload: Upload = {
  key: "upload-1",
  collection: "notes",
  name: "a.md",
  sizeBytes: 7,
  state: "queued",
  ingest: null,
  failure: null,
};
const ingest: Ingest = {
  id: "ingest-1",
  collection: "notes",
  name: "a.md",
  state: "embedding",
  n_chunks: 9,
  n_embedded: 4,
  document: null,
  error: null,
  started_at: "2026-01-01T00:00:00Z",
};

describe("the list of files on their way", () => {
  test("follows a file from here through what the server makes of it", () => {
    const states = (one: Upload, ingests: Ingest[]) => progressOf("notes", [one], ingests).map((row) => row.state);
    expect(states(upload, [])).toEqual(["queued"]);
    expect(states({ ...upload, state: "sent", ingest: "ingest-1" }, [])).toEqual(["waiting"]);
    expect(progressOf("notes", [{ ...upload, state: "sent", ingest: "ingest-1" }], [ingest])).toEqual([
      {
        key: "upload-1",
        name: "a.md",
        sizeBytes: 7,
        state: "embedding",
        ingest: "ingest-1",
        nChunks: 9,
        nEmbedded: 4,
        problem: null,
      },
    ]);
  });

  test("has the sentence of what was refused here, and of what failed there", () => {
    const refused: Upload = { ...upload, state: "refused", failure: new Failure("The body is empty.") };
    expect(progressOf("notes", [refused], [])[0]).toMatchObject({ state: "failed", problem: "The body is empty." });
    const failed: Ingest = {
      ...ingest,
      state: "failed",
      error: { code: "document_error", message: "It is encrypted." },
    };
    const sent: Upload = { ...upload, state: "sent", ingest: "ingest-1" };
    expect(progressOf("notes", [sent], [failed])[0]).toMatchObject({ state: "failed", problem: "It is encrypted." });
  });

  test("shows what others put into this collection only while it is under way", () => {
    expect(progressOf("notes", [], [ingest])).toHaveLength(1);
    expect(progressOf("notes", [], [{ ...ingest, state: "done" }])).toHaveLength(0);
    expect(progressOf("other", [upload], [ingest])).toHaveLength(0);
  });

  test("knows what is over", () => {
    expect((["done", "unchanged", "failed", "cancelled"] as const).every(isOver)).toBe(true);
    expect((["queued", "sending", "waiting", "reading", "embedding"] as const).some(isOver)).toBe(false);
  });
});
