import { Button, Group } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import type { QueryClient } from "@tanstack/react-query";
import { authorization } from "@/api/access";
import { api, send, told } from "@/api/client";
import { failureOf } from "@/api/failure";
import { Store } from "@/app/store";
import { FailureText } from "@/components/States";
import { keepCollections, keepDraft } from "./preferences";
import { type ContextPolicy, type Session, sessionQuery } from "./queries";

const UNDO_MS = 6000;

/** Sessions that were deleted on the page and can still be had back. */
export const hidden = new Store<ReadonlySet<string>>(new Set());

const path = (id: string) => ({ params: { path: { id } } });

export async function renameSession(queries: QueryClient, id: string, title: string): Promise<void> {
  await changeSession(queries, id, { title });
}

/** Change what is set of a session, and everything that shows it. Says so when it did not work. */
export async function changeSession(
  queries: QueryClient,
  id: string,
  changes: { title?: string; model?: string; persona?: string; context_policy?: ContextPolicy },
): Promise<boolean> {
  try {
    const session = await told(api.POST("/madang/v1/sessions/{id}", { ...path(id), body: changes }));
    queries.setQueryData(sessionQuery(id).queryKey, (whole) => whole && { ...whole, ...session });
    void queries.invalidateQueries({ queryKey: ["sessions"] });
    return true;
  } catch (error) {
    notifications.show({ color: "red", message: <FailureText error={error} /> });
    return false;
  }
}

/** Delete a session after a while in which it can be had back; when the page is left before, at once. */
export function removeWithUndo(queries: QueryClient, id: string, message: string, undo: string): void {
  hidden.set(new Set(hidden.get()).add(id));
  const show = () => {
    const left = new Set(hidden.get());
    left.delete(id);
    hidden.set(left);
  };
  const settle = () => {
    clearTimeout(timer);
    window.removeEventListener("pagehide", leave);
    notifications.hide(id);
  };
  const leave = () =>
    void fetch(`/madang/v1/sessions/${id}`, { method: "DELETE", headers: authorization(), keepalive: true });
  const remove = async () => {
    settle();
    try {
      await told(api.DELETE("/madang/v1/sessions/{id}", path(id)));
      keepDraft(id, "");
      keepCollections(id, []);
      queries.removeQueries({ queryKey: sessionQuery(id).queryKey });
      await queries.invalidateQueries({ queryKey: ["sessions"] });
    } catch (error) {
      notifications.show({ color: "red", message: <FailureText error={error} /> });
    }
    show();
  };
  const timer = setTimeout(() => void remove(), UNDO_MS);
  window.addEventListener("pagehide", leave);
  const takeBack = () => {
    settle();
    show();
  };
  notifications.show({
    id,
    autoClose: UNDO_MS,
    withCloseButton: false,
    message: (
      <Group justify="space-between" wrap="nowrap">
        {message}
        <Button size="compact-sm" variant="subtle" onClick={takeBack}>
          {undo}
        </Button>
      </Group>
    ),
  });
}

/** Save a session as a file. */
export async function exportSession(id: string, format: "json" | "markdown"): Promise<void> {
  try {
    const response = await send(`/madang/v1/sessions/${id}/export?format=${format}`);
    if (!response.ok) throw failureOf(await response.json().catch(() => null), response.status);
    const url = URL.createObjectURL(await response.blob());
    const link = Object.assign(document.createElement("a"), {
      href: url,
      download: `${id}.${format === "json" ? "json" : "md"}`,
    });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  } catch (error) {
    notifications.show({ color: "red", message: <FailureText error={error} /> });
  }
}

/** Make a session of an exported file's text. Raises SyntaxError for what is neither form, and Failure. */
export async function importSession(text: string): Promise<Session> {
  const body = text.trimStart().startsWith("{")
    ? { document: JSON.parse(text) as Record<string, unknown> }
    : { markdown: text };
  return told(api.POST("/madang/v1/sessions/import", { body }));
}
