import { describe, expect, test } from "vitest";
import { EventParser, serverEvents } from "./events";

function bodyOf(...pieces: (string | Uint8Array)[]): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  return new ReadableStream({
    start(controller) {
      for (const piece of pieces) controller.enqueue(typeof piece === "string" ? encoder.encode(piece) : piece);
      controller.close();
    },
  });
}

async function datas(body: ReadableStream<Uint8Array>): Promise<string[]> {
  const found: string[] = [];
  for await (const event of serverEvents(body)) found.push(event.data);
  return found;
}

describe("server-sent events", () => {
  test("come whole, wherever the pieces end", async () => {
    const wire = 'data: {"a":1}\n\nevent: done\ndata: x\ndata: y\n\n';
    for (let at = 0; at <= wire.length; at += 1) {
      expect(await datas(bodyOf(wire.slice(0, at), wire.slice(at)))).toEqual(['{"a":1}', "x\ny"]);
    }
  });

  test("keep a Korean syllable whose bytes come apart", async () => {
    const bytes = new TextEncoder().encode("data: 마당\n\n");
    for (let at = 0; at <= bytes.length; at += 1) {
      expect(await datas(bodyOf(bytes.slice(0, at), bytes.slice(at)))).toEqual(["마당"]);
    }
  });

  test("end their lines in any of the three ways", () => {
    for (const end of ["\n", "\r\n", "\r"]) {
      const parser = new EventParser();
      const wire = `: a comment${end}data: 1${end}${end}data:2${end}${end}`;
      const found = [...wire].flatMap((character) => parser.push(character));
      const more = parser.push(end);
      expect([...found, ...more].map((event) => event.data)).toEqual(["1", "2"]);
    }
  });

  test("that never ended are not told", async () => {
    expect(await datas(bodyOf("data: whole\n\ndata: half"))).toEqual(["whole"]);
  });

  test("hang up when nobody reads on", async () => {
    let isCancelled = false;
    const endless = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.enqueue(new TextEncoder().encode("data: again\n\n")),
      cancel: () => {
        isCancelled = true;
      },
    });
    for await (const event of serverEvents(endless)) {
      expect(event.data).toBe("again");
      break;
    }
    expect(isCancelled).toBe(true);
  });
});
