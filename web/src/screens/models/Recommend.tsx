import { Button, Code, NumberInput, Select } from "@mantine/core";
import { IconMoodEmpty } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { type FormEvent, useMemo, useState } from "react";
import type { Schemas } from "@/api/client";
import { Loaded } from "@/components/Loaded";
import { Section } from "@/components/Screen";
import { EmptyState } from "@/components/States";
import { useFormats, useLanguage } from "@/i18n";
import { useTable } from "@/i18n/table";
import { nameOf, TASKS } from "./Catalog";
import { Figures } from "./Figures";
import { languagesOf } from "./filtering";
import classes from "./Models.module.css";
import { PullButton } from "./PullButton";
import { catalogQuery, type Pull, type Recommendation, recommendationsQuery, type Wish } from "./queries";
import { useReason } from "./reasons";
import { texts } from "./texts";

/** "What for?": a wish, and the models that serve it here, each with its reasons. */
export function Recommend({ pulls }: { pulls: readonly Pull[] }) {
  const own = useTable(texts);
  const language = useLanguage();
  const [wish, setWish] = useState<Wish>({
    task: "general",
    memory_bytes: null,
    license: "any",
    language: language === "ko" ? "ko" : null,
    speed_tokens_s: null,
  });
  const found = useQuery(recommendationsQuery(wish));
  return (
    <>
      <Section title={own.wishTitle}>
        <WishForm wish={wish} onWish={setWish} />
      </Section>
      <Loaded of={found}>{(answer) => <Ranking answer={answer} pulls={pulls} />}</Loaded>
    </>
  );
}

function WishForm({ wish, onWish }: { wish: Wish; onWish: (wish: Wish) => void }) {
  const own = useTable(texts);
  const language = useLanguage();
  const { data } = useQuery(catalogQuery);
  const [draft, setDraft] = useState(wish);
  const names = useMemo(() => new Intl.DisplayNames(language, { type: "language" }), [language]);
  const known = useMemo(() => languagesOf(data?.models ?? []), [data]);
  // The one that is chosen has a name before the catalog is here.
  const languages = draft.language === null || known.includes(draft.language) ? known : [draft.language, ...known];
  const change = (part: Partial<Wish>) => setDraft({ ...draft, ...part });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    onWish(draft);
  };
  return (
    <form className={classes.wish} onSubmit={submit}>
      <Select
        label={own.task}
        data={TASKS.map((task) => ({ value: task, label: own.tasks[task] }))}
        value={draft.task}
        onChange={(task) => change({ task: task ?? "general" })}
        allowDeselect={false}
      />
      <Select
        label={own.language}
        data={[
          { value: "", label: own.anyLanguage },
          ...languages.map((tag) => ({ value: tag, label: nameOf(names, tag) })),
        ]}
        value={draft.language ?? ""}
        onChange={(tag) => change({ language: tag === null || tag === "" ? null : tag })}
        allowDeselect={false}
        searchable
      />
      <Select
        label={own.license}
        data={[
          { value: "any", label: own.anyLicense },
          { value: "commercial", label: own.commercial },
          { value: "unconditional", label: own.unconditional },
        ]}
        value={draft.license}
        onChange={(license) => change({ license: license ?? "any" })}
        allowDeselect={false}
      />
      <NumberInput
        label={own.wishMemory}
        placeholder={own.wishMemoryHint}
        min={0.1}
        max={1_000_000}
        value={draft.memory_bytes === null ? "" : draft.memory_bytes / 1e9}
        onChange={(gb) => change({ memory_bytes: typeof gb === "number" && gb > 0 ? Math.round(gb * 1e9) : null })}
        hideControls
      />
      <NumberInput
        label={own.wishSpeed}
        placeholder={own.optional}
        min={0}
        max={1_000_000}
        value={draft.speed_tokens_s ?? ""}
        onChange={(rate) => change({ speed_tokens_s: typeof rate === "number" ? rate : null })}
        hideControls
      />
      <Button type="submit">{own.ask}</Button>
    </form>
  );
}

function Ranking({ answer, pulls }: { answer: Schemas["Recommendations"]; pulls: readonly Pull[] }) {
  const own = useTable(texts);
  const { bytes, count } = useFormats();
  const reason = useReason();
  const task = own.tasks[answer.task as keyof typeof own.tasks] ?? answer.task;
  const leftOut = Object.entries(answer.left_out).map(([why, n]) => `${reason(why)} (${count(n)})`);
  return (
    <>
      <p className={classes.found} role="status">
        {own.rankedFor(task, bytes(answer.memory_bytes))}
      </p>
      {answer.models.length === 0 ? (
        <EmptyState icon={IconMoodEmpty} title={own.noneServes}>
          {own.noneServesNext}
        </EmptyState>
      ) : (
        <ol className={classes.ranking}>
          {answer.models.map((model, index) => (
            <Ranked key={`${model.name} ${model.type}`} place={index + 1} model={model} pulls={pulls} />
          ))}
        </ol>
      )}
      <details className={classes.rule}>
        <summary>{own.rule}</summary>
        <p>{reason(answer.rule)}</p>
        {leftOut.length > 0 && (
          <p>
            {own.leftOut}: {leftOut.join(", ")}
          </p>
        )}
        <p>
          {own.speedIs}: {reason(answer.speed_told)}
        </p>
      </details>
    </>
  );
}

function Ranked({ place, model, pulls }: { place: number; model: Recommendation; pulls: readonly Pull[] }) {
  const own = useTable(texts);
  const { count } = useFormats();
  const reason = useReason();
  const steps = model.steps.join("\n");
  return (
    <li className={classes.row}>
      <span className={classes.place} aria-hidden>
        {place}
      </span>
      <div className={classes.rowMain}>
        <h2 className={classes.rowName}>
          {model.name} <small>{model.type}</small>
        </h2>
        <ul className={classes.reasons}>
          {model.told.map((told) => (
            <li key={told.template}>{reason(told)}</li>
          ))}
          {model.most_context_tokens !== null && <li>{own.mostContext(count(model.most_context_tokens))}</li>}
        </ul>
        {model.made_here && (
          <details className={classes.steps}>
            <summary>
              {model.type} {own.madeHere}
            </summary>
            <p>{own.steps}</p>
            <Code block>{steps}</Code>
          </details>
        )}
      </div>
      <Figures
        memoryBytes={model.memory_bytes}
        isExact={model.is_exact}
        tokensPerS={model.tokens_per_s}
        license={model.license}
        commercial={model.commercial}
      />
      <PullButton name={model.pull} isHere={model.is_here} pulls={pulls} />
    </li>
  );
}
