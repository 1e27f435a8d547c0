import { Button, Code, Loader } from "@mantine/core";
import { IconAlertTriangle, type TablerIcon } from "@tabler/icons-react";
import type { ReactNode } from "react";
import { Failure } from "@/api/failure";
import { useText } from "@/i18n";
import classes from "./States.module.css";

interface Designed {
  icon?: TablerIcon;
  title: string;
  children?: ReactNode;
  action?: ReactNode;
}

/** Where there is nothing yet: what this place is for, and the next step. */
export function EmptyState({ icon: Icon, title, children, action }: Designed) {
  return (
    <div className={classes.state}>
      {Icon !== undefined && (
        <span className={classes.icon} aria-hidden>
          <Icon size={30} stroke={1.4} />
        </span>
      )}
      <h2 className={classes.title}>{title}</h2>
      {children !== undefined && <div className={classes.body}>{children}</div>}
      {action}
    </div>
  );
}

/** While something is on its way. */
export function LoadingState({ label }: { label?: string }) {
  const text = useText();
  return (
    <div className={classes.state} role="status">
      <Loader size="sm" type="dots" />
      <span className={classes.quiet}>{label ?? text.app.loading}</span>
    </div>
  );
}

/** A failure as sentences with the next step. */
export function ErrorState({ error, onRetry }: { error: unknown; onRetry?: () => void }) {
  const text = useText();
  return (
    <div className={classes.state} role="alert">
      <span className={classes.icon} data-tone="bad" aria-hidden>
        <IconAlertTriangle size={30} stroke={1.4} />
      </span>
      <h2 className={classes.title}>{text.failure.title}</h2>
      <div className={classes.body}>
        <FailureText error={error} />
      </div>
      {onRetry !== undefined && (
        <Button variant="default" onClick={onRetry}>
          {text.app.retry}
        </Button>
      )}
    </div>
  );
}

/** The sentences alone, where there is a frame already. */
export function FailureText({ error }: { error: unknown }) {
  const text = useText();
  if (error instanceof Failure) {
    const isGone = error.isUnreachable;
    const hint = isGone ? text.server.unreachableNext : error.hint;
    return (
      <>
        {isGone ? text.server.unreachable : error.message}
        {hint !== null && !error.message.includes(hint) && <> {hint}</>}
        {error.requestId !== null && error.status !== null && error.status >= 500 && (
          <div className={classes.quiet}>{text.failure.request(error.requestId)}</div>
        )}
      </>
    );
  }
  return <>{error instanceof Error ? error.message : String(error)}</>;
}

export function CrashedState({ error }: { error: unknown }) {
  const text = useText();
  return (
    <div className={classes.state} role="alert">
      <h2 className={classes.title}>{text.failure.crashed}</h2>
      <div className={classes.body}>{text.failure.crashedNext}</div>
      <Code>{error instanceof Error ? error.message : String(error)}</Code>
      <Button variant="default" onClick={() => location.reload()}>
        {text.failure.reload}
      </Button>
    </div>
  );
}
