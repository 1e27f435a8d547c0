/** A text by its characters as the server counts them: code points, of which some are two units of a string here. */
export class Characters {
  readonly #text: string;
  /** Where each character begins; null where that is its own number, as in most texts. */
  readonly #starts: Uint32Array | null;

  constructor(text: string) {
    this.#text = text;
    this.#starts = /[\ud800-\udbff]/.test(text) ? startsOf(text) : null;
  }

  slice(start: number, end: number): string {
    return this.#text.slice(this.#unit(start), this.#unit(end));
  }

  get length(): number {
    return this.#starts === null ? this.#text.length : this.#starts.length - 1;
  }

  #unit(character: number): number {
    if (this.#starts === null) return character;
    return this.#starts[Math.max(0, Math.min(character, this.#starts.length - 1))] ?? this.#text.length;
  }
}

function startsOf(text: string): Uint32Array {
  const starts = new Uint32Array(text.length + 1);
  let n = 0;
  for (let unit = 0; unit < text.length; n += 1) {
    starts[n] = unit;
    unit += (text.codePointAt(unit) ?? 0) > 0xffff ? 2 : 1;
  }
  starts[n] = text.length;
  return starts.slice(0, n + 1);
}
