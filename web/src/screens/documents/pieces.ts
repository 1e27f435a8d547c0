import { Characters } from "@/components/Characters";
import type { WholeDocument } from "./queries";

/** A stretch of a document's text: a chunk, or what lies between two. */
export interface Piece {
  chunk: string | null;
  /** The number of the chunk, from 1. */
  number: number;
  text: string;
  headings: readonly string[];
  /** Where the headings are others than of the chunk before. */
  isNewSection: boolean;
  page: number | null;
  speaker: string | null;
}

/** The text in the order of its chunks. Of what chunks share, the first has it, so that nothing is read twice. */
export function piecesOf(document: Pick<WholeDocument, "text" | "chunks">): Piece[] {
  const characters = new Characters(document.text);
  const pieces: Piece[] = [];
  let at = 0;
  let before: readonly string[] = [];
  const gap = (end: number) => {
    const text = characters.slice(at, end);
    if (text.trim() !== "") {
      pieces.push({ chunk: null, number: 0, text, headings: [], isNewSection: false, page: null, speaker: null });
    }
  };
  const chunks = [...document.chunks].sort((a, b) => a.start - b.start || a.end - b.end);
  for (const [index, chunk] of chunks.entries()) {
    if (chunk.start > at) gap(chunk.start);
    pieces.push({
      chunk: chunk.id,
      number: index + 1,
      text: characters.slice(Math.max(at, chunk.start), chunk.end).replace(/^\n+|\s+$/g, ""),
      headings: chunk.headings,
      isNewSection: chunk.headings.join("\0") !== before.join("\0"),
      page: chunk.page,
      speaker: chunk.speaker,
    });
    before = chunk.headings;
    at = Math.max(at, chunk.end);
  }
  gap(characters.length);
  return pieces;
}

export interface OutlineEntry {
  chunk: string;
  heading: string;
  depth: number;
}

/** The headings, each with the first chunk below it. */
export function outlineOf(pieces: readonly Piece[]): OutlineEntry[] {
  return pieces.flatMap((piece) => {
    const heading = piece.headings.at(-1);
    if (piece.chunk === null || !piece.isNewSection || heading === undefined) return [];
    return [{ chunk: piece.chunk, heading, depth: piece.headings.length - 1 }];
  });
}
