import { createContext, Fragment, lazy, memo, type ReactNode, Suspense, useContext, useState } from "react";
import { type CitationToken, type FormulaToken, GrowingBlocks, type Token, type Tokens } from "./blocks";
import { CodeBlock } from "./CodeBlock";
import classes from "./Markdown.module.css";

const Formula = lazy(() => import("./Formula"));

/** What becomes of "[3]" in a text; null leaves it as it stands. */
export type Cite = (n: number) => ReactNode | null;

const Citing = createContext<Cite | null>(null);

interface Props {
  text: string;
  /** Whether more of it is coming. */
  isGrowing?: boolean;
  /** Keep it the same while what it says is the same. */
  cite?: Cite | null;
}

/**
 * Markdown of a model, a document or a stranger: never trusted. HTML in it is shown as text, links open without telling
 * where from, pictures of other hosts are links.
 */
export const Markdown = memo(function Markdown({ text, isGrowing = false, cite = null }: Props) {
  const [growing] = useState(() => new GrowingBlocks());
  const blocks = growing.update(text);
  const last = blocks.length - 1;
  return (
    <Citing value={cite}>
      <div className={classes.markdown}>
        {blocks.map((block, index) => (
          // Blocks are only ever added at the end; each is known by its place.
          // biome-ignore lint/suspicious/noArrayIndexKey: the place is what stays
          <Block key={index} token={block} isOpen={isGrowing && index === last} />
        ))}
      </div>
    </Citing>
  );
});

interface BlockProps {
  token: Token;
  isOpen: boolean;
}

const Block = memo(
  function Block({ token, isOpen }: BlockProps) {
    return blockOf(token as Tokens.Generic, isOpen);
  },
  (before, after) => before.token.raw === after.token.raw && before.isOpen === after.isOpen,
);

function blockOf(token: Tokens.Generic, isOpen: boolean): ReactNode {
  switch (token.type) {
    case "space":
    case "def":
      return null;
    case "heading": {
      // Below the heading of the screen itself.
      const Tag = `h${Math.min(token.depth + 1, 6)}` as "h2";
      return <Tag data-depth={token.depth}>{inline(token.tokens)}</Tag>;
    }
    case "paragraph":
      return <p>{inline(token.tokens)}</p>;
    case "code":
      return <CodeBlock code={token.text} language={token.lang ?? ""} isOpen={isOpen} />;
    case "blockquote":
      return <blockquote>{many(token.tokens)}</blockquote>;
    case "list":
      return listOf(token as Tokens.List);
    case "table":
      return <Table token={token as Tokens.Table} />;
    case "hr":
      return <hr />;
    case "formula":
      return <ShownFormula token={token as unknown as FormulaToken} />;
    case "text":
      return token.tokens === undefined ? token.text : inline(token.tokens);
    default:
      return <p>{token.raw}</p>; // HTML too: as text
  }
}

function many(tokens: readonly Token[] | undefined): ReactNode {
  // biome-ignore lint/suspicious/noArrayIndexKey: parts of one block, which change together
  return tokens?.map((token, index) => <Fragment key={index}>{blockOf(token as Tokens.Generic, false)}</Fragment>);
}

function listOf(token: Tokens.List): ReactNode {
  const items = token.items.map((item, index) => (
    // biome-ignore lint/suspicious/noArrayIndexKey: parts of one block
    <li key={index} data-task={item.task || undefined}>
      {item.task && (item.checked === true ? "☑ " : "☐ ")}
      {many(item.tokens.filter((part) => part.type !== "checkbox"))}
    </li>
  ));
  return token.ordered ? <ol start={token.start === "" ? 1 : token.start}>{items}</ol> : <ul>{items}</ul>;
}

function Table({ token }: { token: Tokens.Table }) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a wide table is scrolled with the keyboard too
    <div className={classes.table} role="group" tabIndex={0}>
      <table>
        <thead>
          <tr>
            {token.header.map((cell, index) => (
              // biome-ignore lint/suspicious/noArrayIndexKey: columns
              <th key={index} data-align={cell.align ?? undefined}>
                {inline(cell.tokens)}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {token.rows.map((row, at) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: rows
            <tr key={at}>
              {row.map((cell, index) => (
                // biome-ignore lint/suspicious/noArrayIndexKey: columns
                <td key={index} data-align={cell.align ?? undefined}>
                  {inline(cell.tokens)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function inline(tokens: readonly Token[] | undefined): ReactNode {
  // biome-ignore lint/suspicious/noArrayIndexKey: parts of one block, which change together
  return tokens?.map((token, index) => <Fragment key={index}>{spanOf(token as Tokens.Generic)}</Fragment>);
}

function spanOf(token: Tokens.Generic): ReactNode {
  switch (token.type) {
    case "strong":
      return <strong>{inline(token.tokens)}</strong>;
    case "em":
      return <em>{inline(token.tokens)}</em>;
    case "del":
      return <del>{inline(token.tokens)}</del>;
    case "codespan":
      return <code>{token.text}</code>;
    case "br":
      return <br />;
    case "link":
      return <SafeLink href={token.href}>{inline(token.tokens)}</SafeLink>;
    case "image":
      return <SafeLink href={token.href}>{token.text === "" ? token.href : token.text}</SafeLink>;
    case "formula":
      return <ShownFormula token={token as unknown as FormulaToken} />;
    case "citation":
      return <Citation token={token as unknown as CitationToken} />;
    case "escape":
      return token.text;
    case "text":
      return token.tokens === undefined ? decoded(token.text) : inline(token.tokens);
    default:
      return token.raw;
  }
}

/** The entities that models write; the rest stays as it was written. */
function decoded(text: string): string {
  const named: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', nbsp: "\u00a0", "#39": "'" };
  return text.replace(/&(amp|lt|gt|quot|nbsp|#39);/g, (whole, name: string) => named[name] ?? whole);
}

function SafeLink({ href, children }: { href: string; children: ReactNode }) {
  if (!/^(https?:|mailto:)/i.test(href)) return <span title={href}>{children}</span>;
  return (
    <a href={href} target="_blank" rel="noopener noreferrer nofollow">
      {children}
    </a>
  );
}

function Citation({ token }: { token: CitationToken }) {
  const cite = useContext(Citing);
  return cite?.(token.n) ?? token.raw;
}

function ShownFormula({ token }: { token: FormulaToken }) {
  return (
    <Suspense fallback={<code>{token.text}</code>}>
      <Formula text={token.text} isBlock={token.isBlock} />
    </Suspense>
  );
}
