import { ActionIcon, Button, Menu, ScrollArea, TextInput, Tooltip, UnstyledButton } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { notifications } from "@mantine/notifications";
import {
  IconDots,
  IconDownload,
  IconEdit,
  IconFileImport,
  IconPencil,
  IconSearch,
  IconTrash,
} from "@tabler/icons-react";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { type ChangeEvent, type KeyboardEvent, useEffect, useRef, useState } from "react";
import { Link, useLocation } from "wouter";
import { useStore } from "@/app/store";
import { ErrorState, FailureText } from "@/components/States";
import { useText } from "@/i18n";
import { generations, isRunning } from "./generations";
import { type Session, sessionsQuery } from "./queries";
import classes from "./SessionList.module.css";
import { exportSession, hidden, importSession, removeWithUndo, renameSession } from "./sessions";

interface Props {
  current: string | null;
  /** Each new number puts the cursor into the search field. */
  searches: number;
  onChosen: () => void;
}

export function SessionList({ current, searches, onChosen }: Props) {
  const text = useText();
  const [, go] = useLocation();
  const [typed, setTyped] = useState("");
  const [query] = useDebouncedValue(typed.trim(), 200);
  const sessions = useQuery(sessionsQuery(query));
  const away = useStore(hidden);
  const search = useRef<HTMLInputElement>(null);
  useEffect(() => {
    if (searches > 0) search.current?.focus();
  }, [searches]);

  const listed = (sessions.data ?? []).filter((session) => !away.has(session.id));
  return (
    <div className={classes.sidebar}>
      <div className={classes.top}>
        <Button
          fullWidth
          variant="light"
          leftSection={<IconEdit size={17} stroke={1.7} />}
          justify="flex-start"
          onClick={() => {
            onChosen();
            go("/chat");
          }}
        >
          {text.chat.newChat}
        </Button>
        <ImportButton />
      </div>
      <TextInput
        ref={search}
        className={classes.search ?? ""}
        size="sm"
        type="search"
        aria-label={text.chat.searchLabel}
        placeholder={text.chat.search}
        leftSection={<IconSearch size={15} stroke={1.7} />}
        value={typed}
        onChange={(event) => setTyped(event.currentTarget.value)}
        onKeyDown={(event) => event.key === "Escape" && setTyped("")}
      />
      <ScrollArea className={classes.scroll ?? ""} type="hover" scrollbarSize={8}>
        <nav aria-label={text.chat.sessions} className={classes.sessions}>
          {sessions.isError && listed.length === 0 ? (
            <ErrorState error={sessions.error} onRetry={() => void sessions.refetch()} />
          ) : listed.length === 0 && !sessions.isPending ? (
            <p className={classes.none}>{query === "" ? text.chat.none : text.chat.noneFound}</p>
          ) : (
            byAge(listed).map(([age, group]) => (
              <section key={age} aria-label={text.chat[age]}>
                <h2 className={classes.age}>{text.chat[age]}</h2>
                <ul>
                  {group.map((session) => (
                    <Row key={session.id} session={session} isCurrent={session.id === current} onChosen={onChosen} />
                  ))}
                </ul>
              </section>
            ))
          )}
        </nav>
      </ScrollArea>
    </div>
  );
}

function ImportButton() {
  const text = useText();
  const queries = useQueryClient();
  const [, go] = useLocation();
  const file = useRef<HTMLInputElement>(null);
  const take = async (event: ChangeEvent<HTMLInputElement>) => {
    const input = event.currentTarget;
    const chosen = input.files?.[0];
    if (chosen === undefined) return;
    try {
      const session = await importSession(await chosen.text());
      void queries.invalidateQueries({ queryKey: ["sessions"] });
      notifications.show({ message: text.chat.imported });
      go(`/chat/${session.id}`);
    } catch (error) {
      const message = error instanceof SyntaxError ? text.chat.notImported : <FailureText error={error} />;
      notifications.show({ color: "red", message });
    } finally {
      input.value = "";
    }
  };
  return (
    <>
      <Tooltip label={text.chat.import}>
        <ActionIcon size={36} aria-label={text.chat.import} onClick={() => file.current?.click()}>
          <IconFileImport size={18} stroke={1.6} />
        </ActionIcon>
      </Tooltip>
      <input
        ref={file}
        type="file"
        accept=".json,.md,application/json,text/markdown"
        hidden
        aria-label={text.chat.import}
        onChange={(event) => void take(event)}
      />
    </>
  );
}

function Row({ session, isCurrent, onChosen }: { session: Session; isCurrent: boolean; onChosen: () => void }) {
  const text = useText();
  const queries = useQueryClient();
  const [, go] = useLocation();
  const [isRenaming, setRenaming] = useState(false);
  const isBusy = isRunning(useStore(generations).get(session.id));
  const title = session.title === "" ? text.chat.untitled : session.title;

  if (isRenaming) {
    const rename = async (wanted: string) => {
      setRenaming(false);
      if (wanted.trim() === "" || wanted.trim() === session.title) return;
      await renameSession(queries, session.id, wanted.trim());
    };
    return (
      <li>
        <TitleField
          title={session.title}
          onDone={(wanted) => void rename(wanted)}
          onCancel={() => setRenaming(false)}
        />
      </li>
    );
  }
  const remove = () => {
    if (isCurrent) go("/chat");
    removeWithUndo(queries, session.id, text.chat.removed(title), text.app.undo);
  };
  return (
    <li className={classes.row} data-chosen={isCurrent || undefined}>
      <UnstyledButton
        component={Link}
        href={`/chat/${session.id}`}
        className={classes.link}
        aria-current={isCurrent ? "page" : undefined}
        onClick={onChosen}
      >
        {isBusy && <span className={classes.busy} aria-hidden />}
        {title}
      </UnstyledButton>
      <Menu position="bottom-end" withinPortal shadow="md">
        <Menu.Target>
          <ActionIcon className={classes.more ?? ""} size={26} aria-label={text.chat.more(title)}>
            <IconDots size={16} />
          </ActionIcon>
        </Menu.Target>
        <Menu.Dropdown>
          <Menu.Item leftSection={<IconPencil size={15} />} onClick={() => setRenaming(true)}>
            {text.chat.rename}
          </Menu.Item>
          <Menu.Item leftSection={<IconDownload size={15} />} onClick={() => void exportSession(session.id, "json")}>
            {text.chat.exportJson}
          </Menu.Item>
          <Menu.Item
            leftSection={<IconDownload size={15} />}
            onClick={() => void exportSession(session.id, "markdown")}
          >
            {text.chat.exportMarkdown}
          </Menu.Item>
          <Menu.Divider />
          <Menu.Item color="red" leftSection={<IconTrash size={15} />} onClick={remove}>
            {text.app.remove}
          </Menu.Item>
        </Menu.Dropdown>
      </Menu>
    </li>
  );
}

interface TitleProps {
  title: string;
  onDone: (title: string) => void;
  onCancel: () => void;
}

function TitleField({ title, onDone, onCancel }: TitleProps) {
  const text = useText();
  const [typed, setTyped] = useState(title);
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.nativeEvent.isComposing) return;
    if (event.key === "Enter") onDone(typed);
    if (event.key === "Escape") onCancel();
  };
  return (
    <TextInput
      size="sm"
      aria-label={text.chat.title}
      maxLength={200}
      value={typed}
      autoFocus
      onFocus={(event) => event.currentTarget.select()}
      onChange={(event) => setTyped(event.currentTarget.value)}
      onKeyDown={onKeyDown}
      onBlur={() => onDone(typed)}
    />
  );
}

type Age = "today" | "yesterday" | "week" | "month" | "older";

const DAY_MS = 86_400_000;

/** Sessions by when they were last used; they come in that order. */
export function byAge(sessions: readonly Session[], now: Date = new Date()): [Age, Session[]][] {
  const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate()).getTime();
  const groups = new Map<Age, Session[]>();
  for (const session of sessions) {
    const days = (midnight - new Date(session.updated_at).getTime()) / DAY_MS;
    const age: Age =
      days <= 0 ? "today" : days <= 1 ? "yesterday" : days <= 7 ? "week" : days <= 30 ? "month" : "older";
    groups.set(age, [...(groups.get(age) ?? []), session]);
  }
  return [...groups];
}
