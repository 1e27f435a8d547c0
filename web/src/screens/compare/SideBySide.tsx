import { ActionIcon, Badge, Button, NumberInput, Switch, Textarea } from "@mantine/core";
import { IconArrowsDiff, IconPlayerStop } from "@tabler/icons-react";
import { type FormEvent, useState } from "react";
import { persisted, useStore } from "@/app/store";
import { ModelsPicker } from "@/components/ModelsPicker";
import { Markdown } from "@/components/markdown/Markdown";
import { EmptyState, FailureText } from "@/components/States";
import { TextAndChoices } from "@/components/TextAndChoices";
import { useTable } from "@/i18n/table";
import { Figures } from "../chat/Figures";
import classes from "./Compare.module.css";
import { contest, fastestOf, isRunning, type Lane, lanes, stopAll, stopOne } from "./contest";
import { texts } from "./texts";

const MOST_MODELS = 4;
const LONGEST_TOKENS = 8192;

const chosenModels = persisted<string[]>("compare.models", [], (value) =>
  Array.isArray(value) && value.every((one) => typeof one === "string") ? value : undefined,
);

/** The same prompt to two to four models, answered beside each other. */
export function SideBySide({ models }: { models: readonly string[] }) {
  const own = useTable(texts);
  const now = useStore(lanes);
  const isBusy = now.some(isRunning);
  return (
    <>
      <QuestionForm models={models} isBusy={isBusy} />
      {now.length === 0 ? (
        <EmptyState icon={IconArrowsDiff} title={own.ready}>
          {own.readyWhy}
        </EmptyState>
      ) : (
        <div className={classes.lanes}>
          {now.map((lane) => (
            <LaneView key={lane.model} lane={lane} isFastest={fastestOf(now) === lane.model} />
          ))}
        </div>
      )}
    </>
  );
}

function QuestionForm({ models, isBusy }: { models: readonly string[]; isBusy: boolean }) {
  const own = useTable(texts);
  const [prompt, setPrompt] = useState("");
  const [isOneByOne, setOneByOne] = useState(false);
  const [isGreedy, setGreedy] = useState(true);
  const [maxTokens, setMaxTokens] = useState(256);
  const kept = useStore(chosenModels).filter((name) => models.includes(name));
  const chosen = kept.length === 0 ? models.slice(0, 2) : kept;
  const isReady = prompt.trim() !== "" && chosen.length >= 2;
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (isReady) void contest({ prompt: prompt.trim(), models: chosen, isOneByOne, isGreedy, maxTokens });
  };
  return (
    <form onSubmit={submit}>
      <TextAndChoices
        text={
          <Textarea
            label={own.prompt}
            description={own.promptHint}
            value={prompt}
            onChange={(event) => setPrompt(event.currentTarget.value)}
            onKeyDown={(event) => {
              if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) submit(event);
            }}
            autosize
            minRows={3}
            maxRows={10}
          />
        }
        samplesLabel={own.samples}
        samples={own.sampleTexts.map((sample) => [sample, sample])}
        onSample={setPrompt}
        more={
          <div className={classes.switches}>
            <Switch
              label={own.greedy}
              description={own.greedyWhy}
              checked={isGreedy}
              onChange={(event) => setGreedy(event.currentTarget.checked)}
            />
            <Switch
              label={own.oneByOne}
              description={own.oneByOneWhy}
              checked={isOneByOne}
              onChange={(event) => setOneByOne(event.currentTarget.checked)}
            />
          </div>
        }
        choices={
          <>
            <ModelsPicker
              label={own.models}
              description={own.modelsHint}
              models={models}
              most={MOST_MODELS}
              value={chosen}
              onChange={chosenModels.set}
            />
            <NumberInput
              label={own.longest}
              value={maxTokens}
              onChange={(value) => typeof value === "number" && setMaxTokens(value)}
              min={1}
              max={LONGEST_TOKENS}
              clampBehavior="strict"
              allowDecimal={false}
              hideControls
            />
            {isBusy ? (
              // Another element than the one below: it must not become one that submits while it is being pressed.
              <Button key="stop" variant="default" leftSection={<IconPlayerStop size={16} />} onClick={stopAll}>
                {own.stopAll}
              </Button>
            ) : (
              <Button key="ask" type="submit" disabled={!isReady}>
                {own.run}
              </Button>
            )}
          </>
        }
      />
    </form>
  );
}

function LaneView({ lane, isFastest }: { lane: Lane; isFastest: boolean }) {
  const own = useTable(texts);
  const { model, state, answer } = lane;
  return (
    <section className={classes.lane} aria-label={model} data-state={state}>
      <header className={classes.laneHead}>
        <h2 className={classes.laneName}>{model}</h2>
        {isFastest && (
          <Badge variant="light" tt="none" className={classes.fastest ?? ""}>
            {own.fastest}
          </Badge>
        )}
        {isRunning(lane) && (
          <ActionIcon size="sm" aria-label={own.stop(model)} onClick={() => stopOne(model)}>
            <IconPlayerStop size={15} />
          </ActionIcon>
        )}
      </header>
      <p className={classes.laneState} role="status">
        {own.states[state]}
      </p>
      <div className={classes.answer} aria-busy={isRunning(lane)}>
        <Markdown text={answer.text} isGrowing={state === "answering"} />
      </div>
      {answer.failure !== null && (
        <p className={classes.bad} role="alert">
          <FailureText error={answer.failure} />
        </p>
      )}
      <footer className={classes.laneFoot}>
        <Figures facts={answer.facts} model={null} />
      </footer>
    </section>
  );
}
