import { Button } from "@mantine/core";
import { IconCube, IconMessageOff } from "@tabler/icons-react";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { Link, useLocation } from "wouter";
import { api, told } from "@/api/client";
import { Failure } from "@/api/failure";
import { useShortcut } from "@/app/shortcuts";
import { useStore } from "@/app/store";
import { EmptyState, ErrorState, FailureText, LoadingState } from "@/components/States";
import { useText } from "@/i18n";
import { useAsking } from "./asking";
import { Branches } from "./branches";
import { Composer } from "./Composer";
import classes from "./Conversation.module.css";
import { Greeting } from "./Greeting";
import { generations, isRunning, stop } from "./generations";
import { Messages } from "./Messages";
import { lastModel } from "./preferences";
import { type ContextPolicy, modelsQuery, sessionQuery, type WholeSession } from "./queries";
import { changeSession } from "./sessions";
import { TopBar } from "./TopBar";

interface Props {
  /** Null is a conversation that has not begun. */
  id: string | null;
  isListShown: boolean;
  onToggleList: () => void;
}

export function Conversation({ id, isListShown, onToggleList }: Props) {
  const text = useText();
  const queries = useQueryClient();
  const session = useQuery({ ...sessionQuery(id ?? ""), enabled: id !== null });
  const settings = useSettings(id, session.data);
  const generation = useStore(generations).get(id ?? "");
  const asking = useAsking();
  const [, go] = useLocation();
  const [refusal, setRefusal] = useState<unknown>(null);
  const branches = useMemo(() => new Branches(session.data?.messages ?? []), [session.data]);
  const isBusy = isRunning(generation);
  useShortcut("escape", () => id !== null && isBusy && stop(id));

  const { model } = settings;
  const send = async (typed: string): Promise<boolean> => {
    if (model === null) return false;
    setRefusal(null);
    if (id !== null) {
      asking.ask(id, model, typed, session.data?.head ?? null);
      return true;
    }
    try {
      await asking.begin({ model, persona: settings.persona, policy: settings.policy }, typed);
      return true;
    } catch (error) {
      setRefusal(error);
      return false;
    }
  };
  const goTo = async (turn: string) => {
    if (id === null) return;
    const end = branches.end(turn);
    const { queryKey } = sessionQuery(id);
    // What was asked for before the move would show the old branch again.
    await queries.cancelQueries({ queryKey });
    queries.setQueryData(queryKey, (whole) => whole && { ...whole, head: end });
    const moved = api.POST("/madang/v1/sessions/{id}/branch", { params: { path: { id } }, body: { message: end } });
    await told(moved).catch(() => undefined);
    await queries.invalidateQueries({ queryKey });
  };
  const changePolicyAndRetry = async (policy: ContextPolicy) => {
    if (id === null || generation === undefined) return;
    if (await changeSession(queries, id, { context_policy: policy })) await asking.askAgain(generation);
  };

  const bar = <TopBar settings={settings} isListShown={isListShown} onToggleList={onToggleList} />;
  if (settings.hasNoModels) {
    return (
      <section className={classes.conversation} aria-label={text.chat.conversation}>
        {bar}
        <EmptyState
          icon={IconCube}
          title={text.chat.noModels}
          action={
            <Button component={Link} href="/models">
              {text.chat.toModels}
            </Button>
          }
        >
          {text.chat.noModelsWhy}
        </EmptyState>
      </section>
    );
  }
  return (
    <section className={classes.conversation} aria-label={text.chat.conversation}>
      {bar}
      {id !== null && <h1 className={classes.title}>{session.data?.title || text.chat.untitled}</h1>}
      {id === null ? (
        <Greeting onChosen={(starter) => void send(starter)} />
      ) : session.isPending && generation === undefined ? (
        <LoadingState />
      ) : session.isError && session.data === undefined ? (
        <Lost error={session.error} onRetry={() => void session.refetch()} onNew={() => go("/chat")} />
      ) : (
        <Messages
          key={id}
          branches={branches}
          head={session.data?.head ?? null}
          generation={generation}
          onAskAgain={() => generation !== undefined && void asking.askAgain(generation)}
          onPolicy={(policy) => void changePolicyAndRetry(policy)}
          onBranch={(turn) => void goTo(turn)}
          onRegenerate={(question) => model !== null && asking.ask(id, model, null, question)}
          onEdit={(parent, edited) => model !== null && asking.ask(id, model, edited, parent)}
        />
      )}
      {refusal !== null && (
        <p className={classes.refusal} role="alert">
          <FailureText error={refusal} />
        </p>
      )}
      <Composer
        session={id ?? ""}
        persona={settings.persona}
        isBusy={isBusy}
        isReady={model !== null && (id === null || session.data !== undefined)}
        onSend={send}
        onStop={() => id !== null && stop(id)}
      />
    </section>
  );
}

function Lost({ error, onRetry, onNew }: { error: unknown; onRetry: () => void; onNew: () => void }) {
  const text = useText();
  if (!(error instanceof Failure) || error.status !== 404) return <ErrorState error={error} onRetry={onRetry} />;
  return (
    <EmptyState
      icon={IconMessageOff}
      title={text.chat.gone}
      action={<Button onClick={onNew}>{text.chat.newChat}</Button>}
    >
      {text.chat.goneWhy}
    </EmptyState>
  );
}

export type Settings = ReturnType<typeof useSettings>;

/** What a conversation is answered with; of one that has not begun, what it will be. */
function useSettings(id: string | null, session: WholeSession | undefined) {
  const queries = useQueryClient();
  const models = useQuery(modelsQuery);
  const last = useStore(lastModel);
  const [persona, setPersona] = useState<string | null>(null);
  const [policy, setPolicy] = useState<ContextPolicy>("strict");
  const answering = useMemo(
    () => (models.data ?? []).filter((model) => model.capabilities.includes("completion")),
    [models.data],
  );
  const isHere = (name: string | null | undefined) => answering.some((model) => model.name === name);
  const wished = session?.model ?? null;
  const model = isHere(wished) ? wished : isHere(last) ? last : (answering[0]?.name ?? null);
  return {
    models: answering,
    hasNoModels: models.isSuccess && answering.length === 0,
    model,
    persona: id === null ? persona : (session?.persona ?? null),
    policy: id === null ? policy : (session?.context_policy ?? "strict"),
    setModel: (name: string) => {
      lastModel.set(name);
      if (id !== null) void changeSession(queries, id, { model: name });
    },
    setPersona: (name: string | null) => {
      if (id === null) setPersona(name);
      else void changeSession(queries, id, { persona: name ?? "" });
    },
    setPolicy: (wanted: ContextPolicy) => {
      if (id === null) setPolicy(wanted);
      else void changeSession(queries, id, { context_policy: wanted });
    },
  };
}
