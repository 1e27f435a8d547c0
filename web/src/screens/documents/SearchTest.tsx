import { Button, SegmentedControl, TextInput } from "@mantine/core";
import { IconCircleCheck, IconCircleOff } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { Link } from "wouter";
import { Loaded } from "@/components/Loaded";
import { Section } from "@/components/Screen";
import { useFormats } from "@/i18n";
import { useTable } from "@/i18n/table";
import classes from "./Documents.module.css";
import { type Hit, type Mode, placeOf, type SearchAnswer, searchQuery } from "./queries";
import { texts } from "./texts";

const MODES: readonly Mode[] = ["hybrid", "dense", "lexical"];

/** What a question would find here, with every score. */
export function SearchTest({ name }: { name: string }) {
  const own = useTable(texts);
  const [typed, setTyped] = useState("");
  const [asked, setAsked] = useState("");
  const [mode, setMode] = useState<Mode>("hybrid");
  const found = useQuery(searchQuery(name, asked, mode));
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setAsked(typed.trim());
    if (typed.trim() === asked) void found.refetch();
  };
  return (
    <Section title={own.search}>
      <p className={classes.lead}>{own.searchWhy}</p>
      <form className={classes.searchForm} onSubmit={submit}>
        <TextInput
          className={classes.query ?? ""}
          aria-label={own.query}
          placeholder={own.queryHint}
          value={typed}
          onChange={(event) => setTyped(event.currentTarget.value)}
          maxLength={20_000}
        />
        <SegmentedControl
          aria-label={own.mode}
          data={MODES.map((value) => ({ value, label: own[value] }))}
          value={mode}
          onChange={(value) => setMode(value as Mode)}
        />
        <Button type="submit" loading={found.isFetching} disabled={typed.trim() === ""}>
          {own.find}
        </Button>
      </form>
      {asked !== "" && <Loaded of={found}>{(answer) => <Found collection={name} answer={answer} />}</Loaded>}
    </Section>
  );
}

function Found({ collection, answer }: { collection: string; answer: SearchAnswer }) {
  const own = useTable(texts);
  const { count, seconds } = useFormats();
  const Icon = answer.is_relevant ? IconCircleCheck : IconCircleOff;
  return (
    <>
      <p className={classes.verdict} data-relevant={answer.is_relevant} role="status">
        <Icon size={18} aria-hidden /> {answer.is_relevant ? own.relevant : own.notRelevant}
      </p>
      <p className={classes.quiet}>
        {answer.hits.length === 0 ? own.nothing : own.hits(count(answer.hits.length))} ·{" "}
        {own.took(seconds(answer.timings.embed_s), seconds(answer.timings.search_s))}
      </p>
      <ol className={classes.hits}>
        {answer.hits.map((hit) => (
          <HitCard key={hit.chunk.id} collection={collection} hit={hit} best={answer.hits} />
        ))}
      </ol>
    </>
  );
}

function HitCard({ collection, hit, best }: { collection: string; hit: Hit; best: readonly Hit[] }) {
  const own = useTable(texts);
  const chunk = hit.chunk;
  const place = [...chunk.headings, ...(chunk.page === null ? [] : [own.page(chunk.page)]), chunk.speaker];
  const most = (score: (one: Hit) => number | null) => Math.max(...best.map((one) => score(one) ?? 0));
  return (
    <li className={classes.hit}>
      <span className={classes.rank} aria-hidden>
        {hit.rank}
      </span>
      <div className={classes.hitMain}>
        <Link href={placeOf(collection, chunk.document, chunk.id)} className={classes.documentTitle}>
          {chunk.title}
        </Link>
        <span className={classes.quiet}>{place.filter(Boolean).join(" › ")}</span>
        <p className={classes.snippet}>{chunk.text}</p>
      </div>
      <dl className={classes.scores}>
        <Score label={own.score} value={hit.score} most={most((one) => one.score)} />
        <Score label={own.denseScore} value={hit.dense_score} most={1} />
        <Score label={own.lexicalScore} value={hit.lexical_score} most={most((one) => one.lexical_score)} />
      </dl>
    </li>
  );
}

function Score({ label, value, most }: { label: string; value: number | null; most: number }) {
  const own = useTable(texts);
  const share = value === null || most <= 0 ? 0 : Math.max(0, Math.min(1, value / most));
  return (
    <div>
      <dt>{label}</dt>
      <dd title={value === null ? own.notThisWay : undefined}>
        {value === null ? "–" : value.toFixed(value < 10 ? 3 : 1)}
        <span className={classes.scoreBar} aria-hidden>
          <span style={{ width: `${share * 100}%` }} />
        </span>
      </dd>
    </div>
  );
}
