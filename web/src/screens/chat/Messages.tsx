import { Button, VisuallyHidden } from "@mantine/core";
import { IconArrowDown } from "@tabler/icons-react";
import { type CSSProperties, type ReactNode, type Ref, useMemo, useRef } from "react";
import { Virtualizer } from "virtua";
import { FailureText } from "@/components/States";
import { useFormats, useText } from "@/i18n";
import { Answer, FailedAnswer } from "./Answer";
import { BranchSwitch } from "./BranchSwitch";
import type { Branches, Placed } from "./branches";
import classes from "./Conversation.module.css";
import { callOf } from "./chunks";
import { factsOf } from "./facts";
import { useFollowing } from "./following";
import { type Generation, isRunning } from "./generations";
import { Question } from "./Question";
import type { ContextPolicy } from "./queries";

interface Props {
  branches: Branches;
  /** The end of the branch that is shown. */
  head: string | null;
  generation: Generation | undefined;
  onAskAgain: () => void;
  onPolicy: (policy: ContextPolicy) => void;
  onBranch: (turn: string) => void;
  onRegenerate: (question: string) => void;
  onEdit: (parent: string | null, content: string) => void;
}

/** A place in the list: a turn of the session, or what is asked and answered now. */
type Entry =
  | { kind: "turn"; placed: Placed }
  | { kind: "asked"; text: string }
  | { kind: "coming"; generation: Generation };

/** The turns of a branch, of which only those that are seen are in the page, and the answer that is being given. */
export function Messages(props: Props) {
  const { branches, head, generation } = props;
  const text = useText();
  const scroller = useRef<HTMLDivElement>(null);
  const { isFollowing, follow } = useFollowing(scroller);
  const end = generation === undefined ? head : generation.asked.parent;
  const said = useMemo(() => saidOf(branches, end), [branches, end]);
  const entries = generation === undefined ? said : [...said, ...comingOf(generation)];
  const isBusy = isRunning(generation);
  return (
    <div className={classes.messages}>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it is scrolled with the keyboard too */}
      <div ref={scroller} className={classes.scroller} tabIndex={0} role="log" aria-live="off">
        <Virtualizer scrollRef={scroller} bufferSize={600} item={Item} data={entries}>
          {(entry, index) => <Row key={index} entry={entry} isBusy={isBusy} {...props} />}
        </Virtualizer>
      </div>
      {!isFollowing && (
        <Button
          className={classes.toEnd ?? ""}
          size="compact-md"
          radius="xl"
          variant="default"
          leftSection={<IconArrowDown size={15} />}
          onClick={follow}
        >
          {text.chat.toEnd}
        </Button>
      )}
      <VisuallyHidden role="status">{generation === undefined && said.length > 0 ? text.chat.done : ""}</VisuallyHidden>
    </div>
  );
}

function saidOf(branches: Branches, end: string | null): Entry[] {
  const said = branches.path(end).filter(({ turn }) => turn.role !== "system");
  return said.map((placed) => ({ kind: "turn", placed }));
}

function comingOf(generation: Generation): Entry[] {
  const { text } = generation.asked;
  return [...(text === null ? [] : [{ kind: "asked" as const, text }]), { kind: "coming", generation }];
}

interface ItemProps {
  children: ReactNode;
  style: CSSProperties;
  ref?: Ref<HTMLDivElement>;
}

function Item({ children, style, ref }: ItemProps) {
  return (
    <div ref={ref} style={style}>
      <div className={classes.item}>{children}</div>
    </div>
  );
}

/** Known by its place, so that an answer stays what it is on the page when it becomes a turn of the session. */
function Row({ entry, isBusy, ...act }: Props & { entry: Entry; isBusy: boolean }) {
  if (entry.kind === "asked") return <Question content={entry.text} />;
  if (entry.kind === "turn" && entry.placed.turn.role !== "assistant") {
    const { turn } = entry.placed;
    return (
      <Question
        key={turn.id}
        content={turn.content}
        branches={isBusy ? null : <BranchSwitch placed={entry.placed} onSwitch={act.onBranch} />}
        onEdit={isBusy ? undefined : (edited) => act.onEdit(turn.parent, edited)}
      />
    );
  }
  return (
    <>
      {entry.kind === "turn" ? kept(entry.placed, isBusy, act) : coming(entry.generation)}
      {entry.kind === "coming" && entry.generation.state === "failed" && (
        <Failed generation={entry.generation} onAskAgain={act.onAskAgain} onPolicy={act.onPolicy} />
      )}
    </>
  );
}

function kept(placed: Placed, isBusy: boolean, { onBranch, onRegenerate }: Props) {
  const { turn } = placed;
  const { parent } = turn;
  return (
    <Answer
      content={turn.content}
      reasoning={turn.reasoning}
      calls={turn.tool_calls.flatMap(callOf)}
      model={turn.model}
      facts={factsOf(turn)}
      state={turn.state}
      branches={isBusy ? null : <BranchSwitch placed={placed} onSwitch={onBranch} />}
      onRegenerate={isBusy || parent === null ? undefined : () => onRegenerate(parent)}
    />
  );
}

const SHOWN = {
  waiting: "waiting",
  answering: "answering",
  done: "whole",
  stopped: "partial",
  failed: "partial",
} as const;

function coming({ answer, asked, state }: Generation) {
  const hasBegun = answer.text !== "" || answer.reasoning !== "" || answer.calls.length > 0;
  if (state === "failed" && !hasBegun) return null;
  return (
    <Answer
      content={answer.text}
      reasoning={answer.reasoning}
      calls={answer.calls}
      model={asked.model}
      facts={answer.facts}
      state={SHOWN[state]}
    />
  );
}

type FailedProps = Pick<Props, "onAskAgain" | "onPolicy"> & { generation: Generation };

function Failed({ generation, onAskAgain, onPolicy }: FailedProps) {
  const text = useText();
  const { count } = useFormats();
  const { failure } = generation.answer;
  if (failure?.code !== "context_length_exceeded") {
    return (
      <FailedAnswer title={text.failure.title} actions={[{ label: text.chat.retry, act: onAskAgain }]}>
        <FailureText error={failure} />
      </FailedAnswer>
    );
  }
  const { n_prompt_tokens: prompt, n_ctx: context } = failure.fields;
  return (
    <FailedAnswer
      title={text.chat.full}
      actions={[
        { label: text.chat.fullSummarise, act: () => onPolicy("summarise") },
        { label: text.chat.fullDrop, act: () => onPolicy("drop_oldest") },
      ]}
    >
      {typeof prompt === "number" && typeof context === "number"
        ? text.chat.fullWhy(count(prompt), count(context))
        : text.chat.fullUnknown}
    </FailedAnswer>
  );
}
