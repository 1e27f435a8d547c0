import type { Schemas } from "@/api/client";
import { Characters } from "@/components/Characters";

export type Token = Schemas["TextToken"];
export type ModelTokens = Schemas["ModelTokens"];

/** Tokens that stand alone, or together are one character. */
export interface TokenGroup {
  /** What all of them spell; null for a token on its own. */
  character: string | null;
  tokens: readonly { token: Token; index: number }[];
}

/** Neighbours that end with the same character are parts of it, as the bytes of a Korean syllable. */
export function groupsOf(tokens: readonly Token[], text: string): TokenGroup[] {
  const characters = new Characters(text);
  const groups: { character: string | null; tokens: { token: Token; index: number }[] }[] = [];
  for (const [index, token] of tokens.entries()) {
    const last = groups.at(-1);
    const before = last?.tokens.at(-1)?.token;
    const isPlaced = token.end > token.start && !token.is_control;
    if (isPlaced && last !== undefined && before?.end === token.end && before.start <= token.start) {
      last.character = characters.slice(token.start, token.end).trim();
      last.tokens.push({ token, index });
    } else {
      groups.push({ character: null, tokens: [{ token, index }] });
    }
  }
  return groups;
}

const BYTE = /<0x([0-9A-F]{2})>/g;

/** The bytes of a token's text, where those that are no whole characters are written as <0xED>. */
export function bytesOf(text: string): number[] {
  const bytes: number[] = [];
  let at = 0;
  const encoder = new TextEncoder();
  for (const match of text.matchAll(BYTE)) {
    bytes.push(...encoder.encode(text.slice(at, match.index)), Number.parseInt(match[1] ?? "", 16));
    at = match.index + match[0].length;
  }
  bytes.push(...encoder.encode(text.slice(at)));
  return bytes;
}

/** As it is drawn: what cannot be seen gets a sign. A line's end is drawn, and then it breaks the line. */
export function drawnOf(token: Token): { text: string; breaks: boolean } {
  if (token.is_control) return { text: token.text, breaks: false };
  const text = token.text
    .replace(/\n/g, "↵")
    .replace(/\t/g, "⇥")
    .replace(/ /g, "·")
    .replace(/><0x/g, "> <0x")
    .replace(BYTE, (_, hex: string) => hex.toLowerCase());
  return { text, breaks: token.text.includes("\n") };
}

/** Whether a token is bytes that are no character alone. */
export function isPartial(token: Token): boolean {
  return !token.is_control && /<0x[0-9A-F]{2}>/.test(token.text);
}

/** How many times as much a letter of Korean costs as one of English; null without both. */
export function koreanTimes(model: ModelTokens): number | null {
  const { korean, english } = model.tokens_per_letter;
  return korean === undefined || english === undefined || english === 0 ? null : korean / english;
}
