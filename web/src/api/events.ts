/** One event of a stream: what its data lines say, and its name where it has one. */
export interface ServerEvent {
  event: string | null;
  data: string;
}

/**
 * Server-sent events of a body, as they come. Pieces may end anywhere, in the middle of a character too.
 * https://html.spec.whatwg.org/multipage/server-sent-events.html
 */
export async function* serverEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<ServerEvent, void> {
  const reader = body.getReader();
  const parser = new EventParser();
  const decoder = new TextDecoder();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      const text = done ? decoder.decode() : decoder.decode(value, { stream: true });
      yield* parser.push(text);
      if (done) return;
    }
  } finally {
    await reader.cancel().catch(() => undefined); // who stops reading hangs up
  }
}

/** Text in, events out. An event that its blank line never ended is dropped, as the standard says. */
export class EventParser {
  #rest = "";
  #data: string[] = [];
  #event: string | null = null;

  push(text: string): ServerEvent[] {
    const found: ServerEvent[] = [];
    const all = this.#rest + text;
    // A carriage return at the end may be half of a line's end.
    const lines = all.split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      const event = this.#line(line);
      if (event !== null) found.push(event);
    }
    return found;
  }

  #line(line: string): ServerEvent | null {
    if (line === "") {
      const event = this.#data.length === 0 ? null : { event: this.#event, data: this.#data.join("\n") };
      this.#data = [];
      this.#event = null;
      return event;
    }
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#event = value;
    return null;
  }
}
