import { describe, expect, test } from "vitest";
import { blocksOf, GrowingBlocks, type Token } from "./blocks";

const TEXT = `# 마당

A **"word"**는 strong, $x^2$이고 price is $5 and $6.

- one
- two

  more of two

| a | b |
|---|--:|
| 1 | 2 |

\`\`\`python
print("# no heading")

\`\`\`

$$
\\int_0^1 x\\,dx
$$

The end [1], not [2](https://example.org) or [x].
`;

function spans(text: string): Token[] {
  const [block] = blocksOf(text);
  return (block as { tokens: Token[] }).tokens;
}

const types = (tokens: readonly Token[]) => tokens.filter((token) => token.type !== "space").map((token) => token.type);

describe("blocks", () => {
  test("of a growing text are those of the whole, wherever it grows", () => {
    for (const step of [1, 3, 17]) {
      const growing = new GrowingBlocks();
      for (let end = 0; end < TEXT.length; end += step) growing.update(TEXT.slice(0, end));
      const shown = growing.update(TEXT);
      expect(types(shown)).toEqual(types(blocksOf(TEXT)));
      expect(shown.map((token) => token.raw).join("")).toBe(TEXT);
    }
  });

  test("that are finished keep their identity", () => {
    const growing = new GrowingBlocks();
    const [first] = growing.update("one\n\ntwo\n\nthree\n\nfour");
    expect(growing.update("one\n\ntwo\n\nthree\n\nfour and more")[0]).toBe(first);
  });

  test("of a long text are not read again for each token", () => {
    const growing = new GrowingBlocks();
    let text = "";
    for (let n = 0; n < 2000; n += 1) {
      text += `Paragraph ${n} of a long answer.\n\n`;
      growing.update(text);
    }
    const before = [...growing.update(text)];
    const after = growing.update(`${text}x`);
    const same = after.filter((token, index) => token === before[index]).length;
    expect(same).toBeGreaterThan(after.length - 6);
  });

  test("start anew when the text is another", () => {
    const growing = new GrowingBlocks();
    growing.update("# one");
    expect(types(growing.update("two"))).toEqual(["paragraph"]);
  });
});

describe("spans", () => {
  test("strong ends before a Korean particle", () => {
    expect(types(spans('**"마당"**은 넓다'))).toEqual(["strong", "text"]);
    expect(types(spans("**a *b* c** d"))).toContain("strong");
  });

  test("prices are no formulas", () => {
    expect(types(spans("it costs $5 and $6 now"))).toEqual(["text"]);
    expect(types(spans("합은 $x+y$이고 \\(z\\)다"))).toEqual(["text", "formula", "text", "formula", "text"]);
  });

  test("numbers in brackets are citations, links are not", () => {
    expect(types(spans("so [1][2]. [3](https://example.org)"))).toEqual(["text", "citation", "text", "link"]);
  });
});
