import "@mantine/core/styles/Pill.layer.css";
import "@mantine/core/styles/PillsInput.layer.css";
import "@mantine/core/styles/Switch.layer.css";
import "@mantine/core/styles/Table.layer.css";
import { Button, Switch, Textarea } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { IconTextRecognition } from "@tabler/icons-react";
import { keepPreviousData, queryOptions, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "wouter";
import { api, type Schemas, told } from "@/api/client";
import { persisted, useStore } from "@/app/store";
import { Loaded } from "@/components/Loaded";
import { ModelsPicker } from "@/components/ModelsPicker";
import { Screen, Section } from "@/components/Screen";
import { EmptyState } from "@/components/States";
import { TextAndChoices } from "@/components/TextAndChoices";
import { useFormats, useText } from "@/i18n";
import { useTable } from "@/i18n/table";
import { modelsQuery } from "../models/queries";
import { Scripts } from "./Scripts";
import classes from "./Tokens.module.css";
import { TokenText } from "./TokenText";
import { SAMPLES, texts } from "./texts";
import type { ModelTokens } from "./tokens";

const MOST_MODELS = 4;
const MOST_CHARACTERS = 20_000;
const PAUSE_MS = 250;

const typedText = persisted<string>("tokens.text", SAMPLES.both, (value) =>
  typeof value === "string" ? value : undefined,
);
/** Null until somebody chose: then it is the first models that are here. */
const chosenModels = persisted<string[] | null>("tokens.models", null, (value) =>
  Array.isArray(value) && value.every((one) => typeof one === "string") ? value : undefined,
);

function tokensQuery(text: string, models: readonly string[], special: boolean) {
  return queryOptions({
    queryKey: ["tokens", text, models, special],
    queryFn: ({ signal }) =>
      told(api.POST("/madang/v1/tokens", { body: { text, models: [...models], special }, signal })),
    enabled: models.length > 0,
    staleTime: Number.POSITIVE_INFINITY,
    gcTime: 30_000,
    placeholderData: keepPreviousData,
  });
}

/** How models cut a text, and what that costs. */
export default function Tokens() {
  const text = useText();
  const models = useQuery(modelsQuery);
  return (
    <Screen title={text.screens.tokens}>
      <Loaded of={models}>{({ models: all }) => <TokensOf models={all} />}</Loaded>
    </Screen>
  );
}

function TokensOf({ models }: { models: readonly Schemas["Model"][] }) {
  const own = useTable(texts);
  const chosen = useStore(chosenModels) ?? firstOf(models);
  const names = chosen.filter((name) => models.some((model) => model.name === name));
  const typed = useStore(typedText);
  const [shownText] = useDebouncedValue(typed, PAUSE_MS);
  const [isSpecial, setSpecial] = useState(false);
  const cut = useQuery(tokensQuery(shownText, names, isSpecial));
  if (models.length === 0) {
    return (
      <EmptyState
        icon={IconTextRecognition}
        title={own.noneInstalled}
        action={
          <Button component={Link} href="/models/catalog">
            {own.toCatalog}
          </Button>
        }
      />
    );
  }
  return (
    <>
      <TextAndChoices
        text={
          <Textarea
            label={own.text}
            description={own.textHint}
            value={typed}
            onChange={(event) => typedText.set(event.currentTarget.value)}
            maxLength={MOST_CHARACTERS}
            autosize
            minRows={4}
            maxRows={12}
            spellCheck={false}
          />
        }
        samplesLabel={own.tryIt}
        samples={(Object.keys(SAMPLES) as (keyof typeof SAMPLES)[]).map((name) => [own.samples[name], SAMPLES[name]])}
        onSample={typedText.set}
        choices={
          <>
            <ModelsPicker
              label={own.models}
              description={own.modelsHint}
              models={models.map((model) => model.name)}
              most={MOST_MODELS}
              value={names}
              onChange={chosenModels.set}
            />
            <Switch
              label={own.special}
              description={own.specialWhy}
              checked={isSpecial}
              onChange={(event) => setSpecial(event.currentTarget.checked)}
            />
          </>
        }
      />
      {names.length === 0 ? (
        <EmptyState icon={IconTextRecognition} title={own.noModels} />
      ) : (
        <Loaded of={cut}>{(found) => <Found found={found} text={shownText} isOld={cut.isPlaceholderData} />}</Loaded>
      )}
    </>
  );
}

/** One that writes, and one that may cut otherwise: of another architecture, where there is one. */
function firstOf(models: readonly Schemas["Model"][]): string[] {
  const first = models.find((model) => model.capabilities.includes("completion")) ?? models[0];
  const others = models.filter((model) => model !== first);
  const second = others.find((model) => model.architecture !== first?.architecture) ?? others[0];
  return [first, second].flatMap((model) => (model === undefined ? [] : [model.name]));
}

function Found({ found, text, isOld }: { found: Schemas["TextTokens"]; text: string; isOld: boolean }) {
  const own = useTable(texts);
  return (
    <div data-old={isOld || undefined} className={classes.found}>
      <div className={classes.models}>
        {found.models.map((model) => (
          <Section key={model.name} title={model.name}>
            <Figures model={model} />
            <TokenText model={model} text={isOld ? "" : text} />
          </Section>
        ))}
      </div>
      <Section title={own.scripts}>
        <Scripts models={found.models} />
      </Section>
    </div>
  );
}

function Figures({ model }: { model: ModelTokens }) {
  const own = useTable(texts);
  const { count } = useFormats();
  const percent = useShare();
  const share = model.context_share;
  const context = model.context_tokens;
  return (
    <dl className={classes.figures}>
      <div>
        <dt>{own.counts}</dt>
        <dd>{count(model.n_tokens)}</dd>
      </div>
      <div>
        <dt>{own.perCharacter}</dt>
        <dd>{model.tokens_per_character === null ? "–" : model.tokens_per_character.toFixed(2)}</dd>
      </div>
      <div>
        <dt>{own.share}</dt>
        <dd>{share === null || context === null ? own.unknown : own.shareOf(percent(share), count(context))}</dd>
      </div>
      <div>
        <dt>{own.vocabulary}</dt>
        <dd>{count(model.vocabulary_size)}</dd>
      </div>
    </dl>
  );
}

function useShare(): (share: number) => string {
  return (share) => (share > 0 && share < 0.001 ? "< 0.1 %" : `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`);
}
