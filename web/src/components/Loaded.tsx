import { IconLock } from "@tabler/icons-react";
import type { UseQueryResult } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { Failure } from "@/api/failure";
import { EmptyState, ErrorState, FailureText, LoadingState } from "./States";

interface Props<T> {
  of: UseQueryResult<T>;
  /** What a key that may not see it reads. */
  refused?: string;
  children: (data: T) => ReactNode;
}

/** What a query gave; until then that it loads, and instead of it why it failed. What was there before stays. */
export function Loaded<T>({ of: query, refused, children }: Props<T>) {
  if (query.data !== undefined) return <>{children(query.data)}</>;
  if (query.isPending) return <LoadingState />;
  if (refused !== undefined && isForbidden(query.error)) {
    return (
      <EmptyState icon={IconLock} title={refused}>
        <FailureText error={query.error} />
      </EmptyState>
    );
  }
  return <ErrorState error={query.error} onRetry={() => void query.refetch()} />;
}

/** Whether it is the key that lacks the right. */
export function isForbidden(error: unknown): boolean {
  return error instanceof Failure && error.code === "forbidden";
}
