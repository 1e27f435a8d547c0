import { ActionIcon, Button, Progress } from "@mantine/core";
import { IconAlertTriangle, IconCheck, IconClock, IconEqual, IconX } from "@tabler/icons-react";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { api, told } from "@/api/client";
import { useFormats } from "@/i18n";
import { useTable } from "@/i18n/table";
import classes from "./Documents.module.css";
import { ingestsQuery } from "./queries";
import { texts } from "./texts";
import { cancelUpload, isOver, putAway, type Progress as Row } from "./uploads";

/** Each file on its way, and what became of it. */
export function ProgressList({ rows }: { rows: readonly Row[] }) {
  const own = useTable(texts);
  const { count } = useFormats();
  if (rows.length === 0) return null;
  const over = rows.filter((row) => isOver(row.state));
  return (
    <section className={classes.progress} aria-label={own.progress}>
      <header className={classes.progressHead}>
        <span role="status">{own.summary(count(over.length), count(rows.length))}</span>
        {over.length === rows.length && (
          <Button
            size="compact-sm"
            variant="subtle"
            color="gray"
            onClick={() => putAway(new Set(over.map((row) => row.key)))}
          >
            {own.putAway}
          </Button>
        )}
      </header>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it is scrolled with the keyboard too */}
      <ul className={classes.progressRows} tabIndex={0} aria-label={own.progress}>
        {rows.map((row) => (
          <ProgressRow key={row.key} row={row} />
        ))}
      </ul>
    </section>
  );
}

function ProgressRow({ row }: { row: Row }) {
  const own = useTable(texts);
  const { bytes } = useFormats();
  const queries = useQueryClient();
  const cancel = useMutation({
    mutationFn: async () => {
      if (row.ingest === null) cancelUpload(row.key);
      else await told(api.DELETE("/madang/v1/ingests/{id}", { params: { path: { id: row.ingest } } }));
    },
    onSettled: () => queries.invalidateQueries({ queryKey: ingestsQuery.queryKey }),
  });
  const share = row.state === "embedding" && row.nChunks !== null && row.nChunks > 0 ? row.nEmbedded / row.nChunks : 0;
  return (
    <li className={classes.progressRow}>
      <StateIcon state={row.state} />
      <span className={classes.fileName}>{row.name}</span>
      <span className={classes.quiet}>{row.sizeBytes === null ? "" : bytes(row.sizeBytes)}</span>
      <span className={classes.fileState} data-bad={row.state === "failed" || undefined}>
        <StateText row={row} />
      </span>
      {isOver(row.state) ? (
        <span />
      ) : (
        <ActionIcon size="sm" aria-label={own.cancel(row.name)} onClick={() => cancel.mutate()}>
          <IconX size={14} />
        </ActionIcon>
      )}
      {row.state === "embedding" && (
        <Progress className={classes.bar ?? ""} value={share * 100} size={3} aria-label={row.name} />
      )}
    </li>
  );
}

function StateIcon({ state }: { state: Row["state"] }) {
  if (state === "done") return <IconCheck size={16} className={classes.good} aria-hidden />;
  if (state === "unchanged") return <IconEqual size={16} className={classes.faint} aria-hidden />;
  if (state === "failed") return <IconAlertTriangle size={16} className={classes.bad} aria-hidden />;
  if (state === "cancelled") return <IconX size={16} className={classes.faint} aria-hidden />;
  return <IconClock size={16} className={classes.faint} aria-hidden />;
}

function StateText({ row }: { row: Row }) {
  const own = useTable(texts);
  const { count } = useFormats();
  if (row.state === "embedding") {
    return row.nChunks === null ? own.embeddingFirst : own.embedding(count(row.nEmbedded), count(row.nChunks));
  }
  if (row.state === "done") return row.nChunks === null ? own.done : own.doneChunks(count(row.nChunks));
  if (row.state === "failed") return row.problem ?? own.failed;
  return own[row.state];
}
