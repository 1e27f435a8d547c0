import { Button } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { IconCheck, IconDownload } from "@tabler/icons-react";
import { FailureText } from "@/components/States";
import { useText } from "@/i18n";
import { useTable } from "@/i18n/table";
import { isRunning } from "./following";
import classes from "./Models.module.css";
import { type Pull, usePull } from "./queries";
import { texts } from "./texts";

/** Fetches a model, or says that it is here or on its way. */
export function PullButton({ name, isHere, pulls }: { name: string; isHere: boolean; pulls: readonly Pull[] }) {
  const text = useText();
  const own = useTable(texts);
  const pull = usePull();
  if (isHere) {
    return (
      <span className={classes.here}>
        <IconCheck size={16} aria-hidden /> {own.isHere}
      </span>
    );
  }
  const isOnItsWay = pulls.some((one) => one.model === name && isRunning(one));
  return (
    <Button
      className={classes.pullButton ?? ""}
      size="compact-sm"
      variant="light"
      aria-label={`${own.pull}: ${name}`}
      leftSection={<IconDownload size={15} />}
      loading={pull.isPending}
      disabled={isOnItsWay}
      onClick={() =>
        pull.mutate(name, {
          onError: (error) =>
            notifications.show({ color: "red", title: text.failure.title, message: <FailureText error={error} /> }),
        })
      }
    >
      {isOnItsWay ? own.isPulling : own.pull}
    </Button>
  );
}
