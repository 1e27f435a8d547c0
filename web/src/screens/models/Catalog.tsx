import { Badge, Button, Select, TextInput, Tooltip } from "@mantine/core";
import { IconSearch, IconSearchOff } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import type { Schemas } from "@/api/client";
import { Loaded } from "@/components/Loaded";
import { EmptyState } from "@/components/States";
import { useFormats, useLanguage } from "@/i18n";
import { useTable } from "@/i18n/table";
import { Figures } from "./Figures";
import { type Filter, filtered, isFiltering, languagesOf, NO_FILTER, parametersOf } from "./filtering";
import classes from "./Models.module.css";
import { PullButton } from "./PullButton";
import { type CatalogModel, catalogQuery, type Pull } from "./queries";
import { useReason } from "./reasons";
import { texts } from "./texts";

const SIZES_GB = [1, 2, 4, 8, 16, 32];
export const TASKS = ["general", "korean", "coding", "math", "summarize", "rag", "embedding", "rerank"] as const;

/** Every model that can be pulled by name, as it would be on this machine. */
export function Catalog({ pulls }: { pulls: readonly Pull[] }) {
  const catalog = useQuery(catalogQuery);
  return (
    <Loaded of={catalog}>
      {(found) => <CatalogView models={found.models} speedTold={found.speed_told} pulls={pulls} />}
    </Loaded>
  );
}

interface ViewProps {
  models: readonly CatalogModel[];
  speedTold: Schemas["Sentence"];
  pulls: readonly Pull[];
}

function CatalogView({ models, speedTold, pulls }: ViewProps) {
  const own = useTable(texts);
  const { count } = useFormats();
  const reason = useReason();
  const [filter, setFilter] = useState(NO_FILTER);
  const shown = useMemo(() => filtered(models, filter), [models, filter]);
  return (
    <>
      <Filters models={models} filter={filter} onChange={setFilter} />
      <p className={classes.found} role="status">
        {isFiltering(filter)
          ? own.found(count(shown.length), count(models.length))
          : own.foundAll(count(models.length))}
        {" · "}
        {own.speedIs}: {reason(speedTold)}
      </p>
      {shown.length === 0 ? (
        <EmptyState
          icon={IconSearchOff}
          title={own.noneFound}
          action={
            <Button variant="default" onClick={() => setFilter(NO_FILTER)}>
              {own.clear}
            </Button>
          }
        />
      ) : (
        <ul className={classes.rows}>
          {shown.map((model) => (
            <CatalogRow key={model.name} model={model} pulls={pulls} />
          ))}
        </ul>
      )}
    </>
  );
}

interface FilterProps {
  models: readonly CatalogModel[];
  filter: Filter;
  onChange: (filter: Filter) => void;
}

function Filters({ models, filter, onChange }: FilterProps) {
  const own = useTable(texts);
  const language = useLanguage();
  const names = useMemo(() => new Intl.DisplayNames(language, { type: "language" }), [language]);
  const languages = useMemo(() => languagesOf(models), [models]);
  const choose = (part: Partial<Filter>) => onChange({ ...filter, ...part });
  return (
    <search className={classes.filters}>
      <TextInput
        className={classes.search ?? ""}
        aria-label={own.search}
        placeholder={own.searchHint}
        leftSection={<IconSearch size={16} aria-hidden />}
        value={filter.words}
        onChange={(event) => choose({ words: event.currentTarget.value })}
      />
      <Choice
        label={own.task}
        any={own.anyTask}
        options={TASKS.map((task) => [task, own.tasks[task]])}
        value={filter.task}
        onChange={(task) => choose({ task })}
      />
      <Choice
        label={own.language}
        any={own.anyLanguage}
        options={languages.map((tag) => [tag, nameOf(names, tag)])}
        value={filter.language}
        onChange={(tag) => choose({ language: tag })}
      />
      <Choice
        label={own.license}
        any={own.anyLicense}
        options={[
          ["commercial", own.commercial],
          ["unconditional", own.unconditional],
        ]}
        value={filter.license}
        onChange={(license) => choose({ license: license as Filter["license"] })}
      />
      <Choice
        label={own.whichSize}
        any={own.anySize}
        options={[["fits", own.here], ...SIZES_GB.map((gb): [string, string] => [String(gb), own.upTo(String(gb))])]}
        value={filter.size === null ? null : String(filter.size)}
        onChange={(size) => choose({ size: size === null || size === "fits" ? size : Number(size) })}
      />
      <Choice
        label={own.state}
        any={own.any}
        options={[
          ["yes", own.installedOnly],
          ["no", own.notInstalled],
        ]}
        value={filter.installed === null ? null : filter.installed ? "yes" : "no"}
        onChange={(value) => choose({ installed: value === null ? null : value === "yes" })}
      />
    </search>
  );
}

export function nameOf(names: Intl.DisplayNames, tag: string): string {
  try {
    return names.of(tag) ?? tag;
  } catch {
    return tag; // the catalog may have words of its own
  }
}

interface ChoiceProps {
  label: string;
  any: string;
  options: readonly (readonly [string, string])[];
  value: string | null;
  onChange: (value: string | null) => void;
}

function Choice({ label, any, options, value, onChange }: ChoiceProps) {
  return (
    <Select
      aria-label={label}
      data={[{ value: "", label: any }, ...options.map(([option, shown]) => ({ value: option, label: shown }))]}
      value={value ?? ""}
      onChange={(chosen) => onChange(chosen === null || chosen === "" ? null : chosen)}
      allowDeselect={false}
      searchable={options.length > 12}
      maxDropdownHeight={320}
      comboboxProps={{ width: "max-content", position: "bottom-start" }}
    />
  );
}

function CatalogRow({ model, pulls }: { model: CatalogModel; pulls: readonly Pull[] }) {
  const own = useTable(texts);
  const { count } = useFormats();
  const forecast = model.forecast;
  const facts = [
    model.parameters === null ? null : parametersOf(model.parameters),
    forecast.type,
    model.context_tokens === null ? null : own.contextTokens(count(model.context_tokens)),
    model.year,
  ];
  return (
    <li className={classes.row}>
      <div className={classes.rowMain}>
        <h2 className={classes.rowName}>{model.name}</h2>
        <p className={classes.facts}>{facts.filter((fact) => fact !== null && fact !== undefined).join(" · ")}</p>
        <p className={classes.tasks}>
          {model.tasks.map((task) => own.tasks[task as keyof typeof own.tasks] ?? task).join(", ")}
        </p>
      </div>
      <Figures
        memoryBytes={forecast.memory_bytes}
        isExact={forecast.is_exact}
        tokensPerS={forecast.tokens_per_s}
        license={model.license}
        commercial={model.commercial}
      />
      <FitBadge fits={forecast.fits} />
      <PullButton name={model.name} isHere={model.is_here} pulls={pulls} />
    </li>
  );
}

function FitBadge({ fits }: { fits: CatalogModel["forecast"]["fits"] }) {
  const own = useTable(texts);
  const [label, why, tone] = {
    yes: [own.fitsYes, own.fitsYesWhy, "good"] as const,
    tight: [own.fitsTight, own.fitsTightWhy, "warn"] as const,
    no: [own.fitsNo, own.fitsNoWhy, "bad"] as const,
    unknown: [own.fitsUnknown, own.fitsUnknownWhy, "faint"] as const,
  }[fits ?? "unknown"];
  return (
    <Tooltip label={why}>
      <Badge className={classes.fit ?? ""} data-tone={tone} variant="default" tt="none" tabIndex={0}>
        {label}
      </Badge>
    </Tooltip>
  );
}
