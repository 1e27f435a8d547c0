import { ActionIcon, Alert, Button, Tooltip } from "@mantine/core";
import { IconRefresh } from "@tabler/icons-react";
import { memo, type ReactNode, useCallback } from "react";
import { CopyButton } from "@/components/CopyButton";
import { Markdown } from "@/components/markdown/Markdown";
import { useText } from "@/i18n";
import type { ToolCall } from "./chunks";
import { Figures } from "./Figures";
import type { Facts, Source } from "./facts";
import classes from "./Message.module.css";
import { openSource } from "./sources";

interface Props {
  content: string;
  reasoning: string;
  calls: readonly ToolCall[];
  model: string | null;
  facts: Facts | null;
  state: "waiting" | "answering" | "whole" | "partial";
  branches?: ReactNode;
  onRegenerate?: (() => void) | undefined;
  onGoOn?: (() => void) | undefined;
}

const NO_SOURCES: readonly Source[] = [];

export const Answer = memo(function Answer(props: Props) {
  const { content, reasoning, calls, model, facts, state, branches, onRegenerate } = props;
  const text = useText();
  const isRunning = state === "waiting" || state === "answering";
  const sources = facts?.sources ?? NO_SOURCES;
  const cite = useCallback(
    (n: number) => {
      const source = sources.find((one) => one.n === n);
      return source === undefined ? null : <Chip source={source} />;
    },
    [sources],
  );
  return (
    <article className={classes.answer} aria-label={text.chat.answerOf(model ?? "")} aria-busy={isRunning}>
      {reasoning !== "" && (
        <details className={classes.reasoning}>
          <summary>{isRunning && content === "" ? text.chat.reasoningNow : text.chat.reasoning}</summary>
          <Markdown text={reasoning} isGrowing={isRunning} />
        </details>
      )}
      {state === "waiting" && <Waiting />}
      {content !== "" && (
        <div className={classes.content} data-running={isRunning || undefined}>
          <Markdown text={content} isGrowing={isRunning} cite={sources.length === 0 ? null : cite} />
        </div>
      )}
      {calls.map((call, index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: calls are only ever added
        <details key={index} className={classes.call}>
          <summary>{text.chat.toolCall(call.name)}</summary>
          <pre>{call.arguments}</pre>
        </details>
      ))}
      {sources.length > 0 && !isRunning && <Sources sources={sources} />}
      {facts?.isGrounded === false && <p className={classes.note}>{text.sources.notGrounded}</p>}
      {facts?.warnings.map((warning) => (
        <p key={warning} className={classes.note}>
          {warning}
        </p>
      ))}
      {state === "partial" && <p className={classes.note}>{text.chat.partial}</p>}
      {facts?.finishReason === "length" && state === "whole" && <p className={classes.note}>{text.chat.cutByLimit}</p>}
      {!isRunning && (
        <div className={classes.footer}>
          <div className={classes.actions}>
            {branches}
            <CopyButton text={() => content} label={text.chat.copyAnswer} />
            {onRegenerate !== undefined && (
              <Tooltip label={text.chat.regenerate}>
                <ActionIcon size={28} aria-label={text.chat.regenerate} onClick={onRegenerate}>
                  <IconRefresh size={16} stroke={1.6} />
                </ActionIcon>
              </Tooltip>
            )}
          </div>
          <Figures facts={facts} model={model} />
        </div>
      )}
    </article>
  );
});

function Waiting() {
  const text = useText();
  return (
    <div className={classes.waiting} role="status" aria-label={text.chat.waiting}>
      <i />
      <i />
      <i />
    </div>
  );
}

/** The number of a source, within a sentence. */
function Chip({ source }: { source: Source }) {
  const text = useText();
  return (
    <button
      type="button"
      className={classes.chip}
      aria-label={text.sources.cite(source.n, source.title)}
      onClick={() => openSource.set(source)}
    >
      {source.n}
    </button>
  );
}

function Sources({ sources }: { sources: readonly Source[] }) {
  const text = useText();
  return (
    <ul className={classes.sources} aria-label={text.sources.title}>
      {sources.map((source) => (
        <li key={source.n}>
          <button type="button" onClick={() => openSource.set(source)}>
            <b>{source.n}</b>
            <span>{[source.title, ...source.headings.slice(-1)].join(" › ")}</span>
          </button>
        </li>
      ))}
    </ul>
  );
}

interface FailureProps {
  title: string;
  children: ReactNode;
  actions: readonly { label: string; act: () => void }[];
}

/** A failure where the answer would stand, with what can be done about it. */
export function FailedAnswer({ title, children, actions }: FailureProps) {
  return (
    <Alert color="red" variant="light" radius="lg" title={title} className={classes.failure ?? ""}>
      <div>{children}</div>
      <div className={classes.failureActions}>
        {actions.map(({ label, act }, index) => (
          <Button key={label} size="compact-md" variant={index === 0 ? "filled" : "default"} onClick={act}>
            {label}
          </Button>
        ))}
      </div>
    </Alert>
  );
}
