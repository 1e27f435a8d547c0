import { Popover, UnstyledButton } from "@mantine/core";
import { useFormats, useText } from "@/i18n";
import classes from "./Figures.module.css";
import type { Facts } from "./facts";

/** How fast an answer came, and where its tokens went. */
export function Figures({ facts, model }: { facts: Facts | null; model: string | null }) {
  const text = useText();
  const formats = useFormats();
  if (facts === null) return model === null ? null : <span className={classes.model}>{model}</span>;
  const { tokensPerS, firstTokenS, generatedTokens } = facts;
  const figures = [
    model,
    tokensPerS === null ? null : text.ledger.speed(formats.rate(tokensPerS)),
    firstTokenS === null ? null : text.ledger.firstToken(formats.seconds(firstTokenS)),
    generatedTokens === null ? null : text.ledger.tokens(formats.count(generatedTokens)),
  ].filter((figure) => figure !== null);
  return (
    <Popover position="bottom-end" shadow="md" width={300} withinPortal>
      <Popover.Target>
        <UnstyledButton className={classes.figures} title={text.ledger.show}>
          {figures.join(" · ")}
        </UnstyledButton>
      </Popover.Target>
      <Popover.Dropdown>
        <Ledger facts={facts} />
      </Popover.Dropdown>
    </Popover>
  );
}

function Ledger({ facts }: { facts: Facts }) {
  const text = useText();
  const { count } = useFormats();
  const all = facts.contextTokens ?? 0;
  const cached = facts.cachedTokens ?? 0;
  const read = Math.max(0, (facts.keptTokens ?? 0) - cached);
  const generated = facts.generatedTokens ?? 0;
  const used = cached + read + generated;
  const parts = [
    { name: "cached", tokens: cached },
    { name: "read", tokens: read },
    { name: "generated", tokens: generated },
    { name: "free", tokens: Math.max(0, all - used) },
  ] as const;
  const more: [string, number | null][] = [
    [text.ledger.received, facts.receivedTokens],
    [text.ledger.kept, facts.keptTokens],
    [text.ledger.dropped, facts.droppedTokens],
  ];
  return (
    <div className={classes.ledger}>
      <strong>{text.ledger.context(count(used), count(all))}</strong>
      <svg className={classes.bar} viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">
        {parts.map((part, index) => {
          const before = parts.slice(0, index).reduce((sum, one) => sum + one.tokens, 0);
          const share = all === 0 ? 0 : 100 / all;
          return (
            <rect
              key={part.name}
              x={before * share}
              width={part.tokens * share}
              height={1}
              className={classes.part}
              data-part={part.name}
            />
          );
        })}
      </svg>
      <dl>
        {parts.map((part) => (
          <div key={part.name}>
            <dt>
              <i className={classes.dot} data-part={part.name} />
              {text.ledger[part.name]}
            </dt>
            <dd>{count(part.tokens)}</dd>
          </div>
        ))}
        <hr />
        {more.map(([label, tokens]) => (
          <div key={label}>
            <dt>{label}</dt>
            <dd>{tokens === null ? "–" : count(tokens)}</dd>
          </div>
        ))}
        {facts.seed !== null && (
          <div>
            <dt>{text.ledger.seed}</dt>
            <dd>{facts.seed}</dd>
          </div>
        )}
      </dl>
      {facts.droppedMessages > 0 && <p>{text.ledger.droppedMessages(facts.droppedMessages)}</p>}
      {facts.summarisedMessages > 0 && <p>{text.ledger.summarisedMessages(facts.summarisedMessages)}</p>}
    </div>
  );
}
