import { ActionIcon } from "@mantine/core";
import { IconChevronLeft, IconChevronRight } from "@tabler/icons-react";
import { useText } from "@/i18n";
import type { Placed } from "./branches";
import classes from "./Conversation.module.css";

/** "‹ 2/3 ›" where there is more than one. */
export function BranchSwitch({ placed, onSwitch }: { placed: Placed; onSwitch: (turn: string) => void }) {
  const text = useText();
  const { siblings, turn } = placed;
  const at = siblings.indexOf(turn.id);
  if (siblings.length < 2) return null;
  const step = (by: number) => {
    const wanted = siblings[at + by];
    if (wanted !== undefined) onSwitch(wanted);
  };
  return (
    <div className={classes.branches} data-branches role="group" aria-label={text.chat.branch(at + 1, siblings.length)}>
      <ActionIcon size={24} aria-label={text.chat.previousBranch} disabled={at === 0} onClick={() => step(-1)}>
        <IconChevronLeft size={15} />
      </ActionIcon>
      <span aria-hidden>
        {at + 1}/{siblings.length}
      </span>
      <ActionIcon
        size={24}
        aria-label={text.chat.nextBranch}
        disabled={at === siblings.length - 1}
        onClick={() => step(1)}
      >
        <IconChevronRight size={15} />
      </ActionIcon>
    </div>
  );
}
