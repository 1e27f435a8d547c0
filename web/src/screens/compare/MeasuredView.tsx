import { ActionIcon, Button, Progress, SegmentedControl, Select, Tooltip } from "@mantine/core";
import { IconChartDots, IconTrash } from "@tabler/icons-react";
import { queryOptions, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { api, type Schemas, told } from "@/api/client";
import { Confirm } from "@/components/Confirm";
import { Loaded } from "@/components/Loaded";
import { ModelsPicker } from "@/components/ModelsPicker";
import { Section } from "@/components/Screen";
import { EmptyState, FailureText } from "@/components/States";
import { useFormats, useText } from "@/i18n";
import { useTable } from "@/i18n/table";
import { Chart } from "./Chart";
import classes from "./Compare.module.css";
import { FiguresTable } from "./FiguresTable";
import { type Measured, measuredOf, pointsOf } from "./plots";
import { texts } from "./texts";

type Comparison = Schemas["Comparison"];

const LOOK_MS = 1000;
const MOST_MODELS = 8;

const comparisonsQuery = queryOptions({
  queryKey: ["comparisons"],
  queryFn: ({ signal }) => told(api.GET("/madang/v1/comparisons", { signal })),
  refetchInterval: (query) =>
    query.state.data?.comparisons.some((one) => one.state === "measuring") ? LOOK_MS : false,
});

function comparisonQuery(id: string) {
  return queryOptions({
    queryKey: ["comparisons", id],
    queryFn: ({ signal }) => told(api.GET("/madang/v1/comparisons/{id}", { params: { path: { id } }, signal })),
  });
}

/** The results of measurements, and a way to make one. */
export function MeasuredView({ models }: { models: readonly string[] }) {
  const own = useTable(texts);
  const comparisons = useQuery(comparisonsQuery);
  return (
    <Loaded of={comparisons}>
      {({ comparisons: all }) => {
        const done = all.filter((one) => one.state === "done");
        const running = all.filter((one) => one.state === "measuring" || one.state === "failed");
        return (
          <>
            {running.map((one) => (
              <RunningView key={one.id} run={one} />
            ))}
            {done.length > 0 && <Results done={done} />}
            {all.length === 0 && (
              <EmptyState icon={IconChartDots} title={own.measuredNone}>
                {own.measuredNoneWhy}
              </EmptyState>
            )}
            {models.length > 0 && (
              <MeasureForm models={models} isBusy={running.some((one) => one.state === "measuring")} />
            )}
          </>
        );
      }}
    </Loaded>
  );
}

function useEnd(onEnded?: () => void) {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: (id: string) => told(api.DELETE("/madang/v1/comparisons/{id}", { params: { path: { id } } })),
    onSuccess: () => onEnded?.(),
    onSettled: () => queries.invalidateQueries({ queryKey: comparisonsQuery.queryKey, exact: true }),
  });
}

function RunningView({ run }: { run: Comparison }) {
  const own = useTable(texts);
  const { count } = useFormats();
  const end = useEnd();
  return (
    <Section title={run.models.join(" · ")}>
      {run.state === "failed" ? (
        <p className={classes.bad} role="alert">
          {own.failed} {run.error?.message}
        </p>
      ) : (
        <div className={classes.running}>
          <span role="status">
            {run.at_work === null
              ? own.measuringFirst
              : own.measuring(run.at_work, count(run.n_done), count(run.n_steps))}
          </span>
          <Progress
            value={run.n_steps === 0 ? 0 : (run.n_done / run.n_steps) * 100}
            aria-label={run.models.join(", ")}
          />
          <Button size="compact-sm" variant="default" loading={end.isPending} onClick={() => end.mutate(run.id)}>
            {own.cancel}
          </Button>
        </div>
      )}
    </Section>
  );
}

function MeasureForm({ models, isBusy }: { models: readonly string[]; isBusy: boolean }) {
  const own = useTable(texts);
  const queries = useQueryClient();
  const [chosen, setChosen] = useState<string[]>([]);
  const start = useMutation({
    mutationFn: () => told(api.POST("/madang/v1/comparisons", { body: measurementOf(chosen) })),
    onSettled: () => queries.invalidateQueries({ queryKey: comparisonsQuery.queryKey, exact: true }),
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (chosen.length > 0) start.mutate();
  };
  return (
    <Section title={own.measure}>
      <form className={classes.measure} onSubmit={submit}>
        <ModelsPicker
          label={own.models}
          description={own.measureWhy}
          models={models}
          most={MOST_MODELS}
          value={chosen}
          onChange={setChosen}
        />
        <Button type="submit" loading={start.isPending} disabled={chosen.length === 0 || isBusy}>
          {own.measureDo}
        </Button>
      </form>
      {start.isError && (
        <p className={classes.bad} role="alert">
          <FailureText error={start.error} />
        </p>
      )}
    </Section>
  );
}

function measurementOf(models: readonly string[]) {
  return { models: [...models], prompts: [], text: true, answer_tokens: 48, repetitions: 3 };
}

function Results({ done }: { done: readonly Comparison[] }) {
  const own = useTable(texts);
  const text = useText();
  const { time } = useFormats();
  const [chosen, setChosen] = useState<string | null>(null);
  const [isAsking, setAsking] = useState(false);
  const id = done.find((one) => one.id === chosen)?.id ?? done[0]?.id ?? "";
  const whole = useQuery(comparisonQuery(id));
  const end = useEnd(() => setAsking(false));
  return (
    <>
      <div className={classes.which}>
        <Select
          aria-label={own.results}
          data={done.map((one) => ({ value: one.id, label: `${time(one.started_at)} · ${one.models.join(", ")}` }))}
          value={id}
          onChange={setChosen}
          allowDeselect={false}
        />
        <Tooltip label={own.removeResult}>
          <ActionIcon size="lg" variant="default" aria-label={own.removeResult} onClick={() => setAsking(true)}>
            <IconTrash size={17} stroke={1.6} />
          </ActionIcon>
        </Tooltip>
      </div>
      <Loaded of={whole}>{(found) => (found.result == null ? null : <ResultView result={found.result} />)}</Loaded>
      {isAsking && (
        <Confirm
          title={own.removeTitle}
          action={text.app.remove}
          isBusy={end.isPending}
          error={end.error}
          onConfirm={() => end.mutate(id)}
          onClose={() => setAsking(false)}
        >
          {own.removeWhy}
        </Confirm>
      )}
    </>
  );
}

function ResultView({ result }: { result: Readonly<Record<string, unknown>> }) {
  const own = useTable(texts);
  const { bytes, rate } = useFormats();
  const models = measuredOf(result);
  const names = [...new Set(models.flatMap((model) => Object.keys(model.perplexity)))];
  const hasKl = models.filter((model) => model.kl !== null).length > 1;
  const measures = [...names, ...(hasKl ? [KL] : [])];
  const [chosen, setChosen] = useState<string | null>(null);
  const measure = measures.find((one) => one === chosen) ?? measures[0] ?? KL;
  const isKl = measure === KL;
  const size = { title: own.sizeAxis, write: bytes };
  return (
    <>
      <Machine of={result.machine} />
      <Section title={own.quality}>
        {measures.length > 1 && (
          <SegmentedControl
            aria-label={own.by}
            data={measures.map((one) => ({ value: one, label: one === KL ? own.kl : `${own.perplexity}, ${one}` }))}
            value={measure}
            onChange={setChosen}
          />
        )}
        <p className={classes.faint}>
          {isKl ? own.qualityKl : own.qualityPerplexity}. {own.noise}
        </p>
        <Chart
          x={size}
          y={{ title: isKl ? own.kl : own.perplexity, write: isKl ? small : rate }}
          points={pointsOf(
            models,
            (model) => model.sizeBytes,
            (model) => (isKl ? model.kl : (model.perplexity[measure] ?? null)),
          )}
        />
      </Section>
      <Section title={own.speed}>
        <p className={classes.faint}>{own.ranges}</p>
        <Chart
          x={size}
          y={{ title: own.decode, write: rate }}
          points={pointsOf(
            models,
            (model) => model.sizeBytes,
            (model) => model.decodeTokensPerS,
          )}
        />
      </Section>
      <Section title={own.figures}>
        <FiguresTable models={models} texts={names} />
        <Lost models={models} />
      </Section>
    </>
  );
}

const KL = "KL divergence"; // no text has this name

function small(value: number): string {
  return value === 0 ? "0" : value.toPrecision(2);
}

function Machine({ of }: { of: unknown }) {
  const own = useTable(texts);
  const machine = typeof of === "object" && of !== null ? (of as Record<string, unknown>) : {};
  if (typeof machine.cpu !== "string") return null;
  return <p className={classes.faint}>{own.madeOn(machine.cpu, String(machine.physical_cores ?? "?"))}</p>;
}

function Lost({ models }: { models: readonly Measured[] }) {
  const own = useTable(texts);
  return models
    .filter((model) => model.failed !== null)
    .map((model) => (
      <p key={model.label} className={classes.bad}>
        {model.label}: {own.lostModel(model.failed ?? "")}
      </p>
    ));
}
