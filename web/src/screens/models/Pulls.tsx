import { ActionIcon, Button, Progress, Tooltip } from "@mantine/core";
import { IconAlertTriangle, IconCheck, IconX } from "@tabler/icons-react";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useRef, useState } from "react";
import { api, told } from "@/api/client";
import { Section } from "@/components/Screen";
import { useFormats, useText } from "@/i18n";
import { useTable } from "@/i18n/table";
import { isRunning, RateMeter } from "./following";
import classes from "./Models.module.css";
import { type Pull, pullsQuery, usePull, watched } from "./queries";
import { texts } from "./texts";

/** What is being fetched, and how what was begun here ended. */
export function Pulls({ pulls }: { pulls: readonly Pull[] }) {
  const own = useTable(texts);
  const [away, setAway] = useState<ReadonlySet<string>>(new Set());
  for (const pull of pulls) if (isRunning(pull)) watched.add(pull.id);
  const shown = pulls.filter((pull) => isRunning(pull) || (watched.has(pull.id) && !away.has(pull.id)));
  if (shown.length === 0) return null;
  return (
    <Section title={own.pulls}>
      <ul className={classes.pulls}>
        {shown.map((pull) => (
          <PullRow key={pull.id} pull={pull} onAway={() => setAway(new Set(away).add(pull.id))} />
        ))}
      </ul>
    </Section>
  );
}

function PullRow({ pull, onAway }: { pull: Pull; onAway: () => void }) {
  const text = useText();
  const own = useTable(texts);
  const queries = useQueryClient();
  const again = usePull();
  const cancel = useMutation({
    mutationFn: () => told(api.DELETE("/madang/v1/pulls/{id}", { params: { path: { id: pull.id } } })),
    onSettled: () => queries.invalidateQueries({ queryKey: pullsQuery.queryKey }),
  });
  const share = pull.total_bytes === null || pull.total_bytes === 0 ? null : pull.completed_bytes / pull.total_bytes;
  return (
    <li className={classes.pull}>
      <div className={classes.pullHead}>
        <StateIcon pull={pull} />
        <strong className={classes.name}>{pull.model}</strong>
        <PullLine pull={pull} />
        {(pull.state === "failed" || pull.state === "cancelled") && (
          <Button
            size="compact-sm"
            variant="default"
            onClick={() => {
              onAway();
              again.mutate(pull.model);
            }}
          >
            {own.pullAgain}
          </Button>
        )}
        <Tooltip label={isRunning(pull) ? text.app.cancel : text.app.close}>
          <ActionIcon
            aria-label={isRunning(pull) ? own.pullCancel(pull.model) : text.app.close}
            loading={cancel.isPending}
            onClick={() => (isRunning(pull) ? cancel.mutate() : onAway())}
          >
            <IconX size={16} />
          </ActionIcon>
        </Tooltip>
      </div>
      {isRunning(pull) && (
        <Progress
          value={share === null ? 100 : share * 100}
          animated={share === null}
          striped={share === null}
          size="sm"
          aria-label={pull.model}
          transitionDuration={150}
        />
      )}
      {pull.error !== null && (
        <p className={classes.bad} role="alert">
          {pull.error.message}
        </p>
      )}
    </li>
  );
}

function StateIcon({ pull }: { pull: Pull }) {
  if (pull.state === "done") return <IconCheck size={18} className={classes.goodIcon} aria-hidden />;
  if (pull.state === "failed") return <IconAlertTriangle size={18} className={classes.badIcon} aria-hidden />;
  return null;
}

function PullLine({ pull }: { pull: Pull }) {
  const own = useTable(texts);
  const { bytes, count } = useFormats();
  const meter = useRef(new RateMeter());
  meter.current.see(performance.now(), pull.completed_bytes);
  const rate = pull.state === "pulling" ? meter.current.rate(pull.total_bytes) : null;
  const parts = [stateText()];
  if (rate !== null) parts.push(own.pullRate(bytes(rate.bytesPerS)));
  if (rate?.leftS !== null && rate?.leftS !== undefined) parts.push(own.pullLeft(clock(rate.leftS, count)));
  return (
    <span className={classes.quiet} role="status">
      {parts.join(" · ")}
    </span>
  );

  function stateText(): string {
    if (pull.state === "starting") return own.pullStarting;
    if (pull.state === "done") return own.pullDone;
    if (pull.state === "failed") return own.pullFailed;
    if (pull.state === "cancelled") return own.pullCancelled;
    const done = bytes(pull.completed_bytes);
    return pull.total_bytes === null ? own.pullingUnknown(done) : own.pulling(done, bytes(pull.total_bytes));
  }
}

/** "0:42", "12:05". */
function clock(seconds: number, count: (n: number) => string): string {
  const whole = Math.round(seconds);
  return `${count(Math.floor(whole / 60))}:${String(whole % 60).padStart(2, "0")}`;
}
