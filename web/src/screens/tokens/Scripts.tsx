import { Table } from "@mantine/core";
import { WideTable } from "@/components/WideTable";
import { useFormats } from "@/i18n";
import { useTable } from "@/i18n/table";
import classes from "./Tokens.module.css";
import { texts } from "./texts";
import { koreanTimes, type ModelTokens } from "./tokens";

/** What a letter costs in each language, a model a row. */
export function Scripts({ models }: { models: readonly ModelTokens[] }) {
  const own = useTable(texts);
  const { rate } = useFormats();
  const hasBoth = models.some((model) => koreanTimes(model) !== null);
  const most = Math.max(0, ...models.flatMap((model) => Object.values(model.tokens_per_letter)));
  return (
    <>
      <p className={classes.lead}>{hasBoth ? own.scriptsWhy : own.scriptsNeedBoth}</p>
      <WideTable label={own.scripts} heads={[own.model, own.korean, own.english, own.times]}>
        {models.map((model) => {
          const times = koreanTimes(model);
          return (
            <Table.Tr key={model.name}>
              <Table.Th scope="row">{model.name}</Table.Th>
              <Table.Td>
                <Cost value={model.tokens_per_letter.korean} most={most} language="korean" />
              </Table.Td>
              <Table.Td>
                <Cost value={model.tokens_per_letter.english} most={most} language="english" />
              </Table.Td>
              <Table.Td>{times === null ? "–" : own.timesValue(rate(times))}</Table.Td>
            </Table.Tr>
          );
        })}
      </WideTable>
    </>
  );
}

interface CostProps {
  value: number | undefined;
  most: number;
  language: "korean" | "english";
}

function Cost({ value, most, language }: CostProps) {
  const own = useTable(texts);
  if (value === undefined) return "–";
  return (
    <span className={classes.cost}>
      {own.letters(value.toFixed(2))}
      <span className={classes.costBar} data-language={language} aria-hidden>
        <span style={{ width: `${most > 0 ? (value / most) * 100 : 0}%` }} />
      </span>
    </span>
  );
}
