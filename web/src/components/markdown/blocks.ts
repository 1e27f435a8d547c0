import { Marked, type Token, type TokenizerAndRendererExtension, type Tokens } from "marked";

export type { Token, Tokens } from "marked";

/** A formula; shown on a line of its own or within one. */
export interface FormulaToken {
  type: "formula";
  raw: string;
  text: string;
  isBlock: boolean;
}

/** A number in brackets, which may be that of a source. */
export interface CitationToken {
  type: "citation";
  raw: string;
  n: number;
}

// "$$ … $$" and "\[ … \]"; a block begins on a line of its own.
const FORMULA_BLOCK = /^ {0,3}(?:\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\])[ \t]*(?:\n|$)/;
// "\( … \)" and "$ … $": no space inside the dollars and no digit after them, so that "$5 and $6" are prices.
const FORMULA =
  /^(?:\$\$([^$]+?)\$\$|\\\(([\s\S]+?)\\\)|\\\[([\s\S]+?)\\\]|\$(?![\s$])((?:\\.|[^$\\\n])+?)(?<!\s)\$(?!\d))/;
const CITATION = /^\[(\d{1,3})\](?![(:[])/;
// The standard wants a space or a mark behind a closing "**" that follows a mark, which Korean particles never are.
const STRONG = /^\*\*(?=[^\s*])((?:\\.|[^*\\]|\*(?!\*))*?[^\s\\*])\*\*(?!\*)/;

const extensions: TokenizerAndRendererExtension[] = [
  {
    name: "formulaBlock",
    level: "block",
    start: (source) => firstOf(source, /\n {0,3}(?:\$\$|\\\[)/),
    tokenizer: (source) => formula(FORMULA_BLOCK.exec(source), true),
  },
  {
    name: "formula",
    level: "inline",
    start: (source) => firstOf(source, /\$|\\[([]/),
    tokenizer: (source) => formula(FORMULA.exec(source), false),
  },
  {
    name: "citation",
    level: "inline",
    start: (source) => firstOf(source, /\[\d/),
    tokenizer: (source) => {
      const match = CITATION.exec(source);
      return match === null ? undefined : { type: "citation", raw: match[0], n: Number(match[1]) };
    },
  },
  {
    name: "strongInKorean",
    level: "inline",
    start: (source) => firstOf(source, /\*\*/),
    tokenizer(source) {
      const match = STRONG.exec(source);
      const text = match?.[1];
      if (match === null || text === undefined) return undefined;
      return { type: "strong", raw: match[0], text, tokens: this.lexer.inlineTokens(text) };
    },
  },
];

const marked = new Marked({ gfm: true, extensions });

function firstOf(source: string, pattern: RegExp): number | undefined {
  const at = source.search(pattern);
  return at < 0 ? undefined : at;
}

function formula(match: RegExpExecArray | null, isBlock: boolean): Tokens.Generic | undefined {
  const text = match?.slice(1).find((part) => part !== undefined);
  return match === null || text === undefined
    ? undefined
    : { type: "formula", raw: match[0], text: text.trim(), isBlock: isBlock || match[0].startsWith("$$") };
}

/** The blocks of a text, of which each stands for itself. */
export function blocksOf(text: string): Token[] {
  return marked.lexer(text).filter((token) => token.type !== "space" || token.raw !== "");
}

/**
 * The blocks of a text that grows at its end. Only its last blocks are read again, so that the whole of a long answer
 * costs what it costs once, and what was shown before keeps its identity.
 */
export class GrowingBlocks {
  #text = "";
  #blocks: Token[] = [];

  update(text: string): readonly Token[] {
    if (text === this.#text) return this.#blocks;
    if (!text.startsWith(this.#text)) {
      this.#blocks = blocksOf(text);
    } else {
      // What comes may still belong to the last block, or to the one before a blank line, as a list's next item does.
      let kept = this.#blocks.length;
      for (let n = 0; n < 2 && kept > 0; kept -= 1) if (this.#blocks[kept - 1]?.type !== "space") n += 1;
      const head = this.#blocks.slice(0, kept);
      let length = 0;
      for (const block of head) length += block.raw.length;
      this.#blocks = [...head, ...blocksOf(text.slice(length))];
    }
    this.#text = text;
    return this.#blocks;
  }
}
