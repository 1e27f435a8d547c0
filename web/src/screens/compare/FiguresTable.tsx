import { Table } from "@mantine/core";
import { WideTable } from "@/components/WideTable";
import { useFormats } from "@/i18n";
import { useTable } from "@/i18n/table";
import type { Estimate, Measured } from "./plots";
import { texts as tables } from "./texts";

/** Every figure of the plots, and what they leave out. */
export function FiguresTable({ models, texts }: { models: readonly Measured[]; texts: readonly string[] }) {
  const own = useTable(tables);
  const { bytes, rate, seconds } = useFormats();
  const fine = (value: number) => (value === 0 ? "0" : value < 0.1 ? value.toPrecision(2) : rate(value));
  const share = (value: number) => `${(value * 100).toFixed(1)} %`;
  const heads = [
    own.model,
    own.size,
    own.memory,
    ...texts.map((text) => `${own.perplexity}, ${text}`),
    own.kl,
    own.agreement,
    own.decode,
    own.prefill,
    own.firstToken,
  ];
  return (
    <WideTable label={own.figures} heads={heads}>
      {models.map((model) => (
        <Table.Tr key={model.label}>
          <Table.Th scope="row">
            {model.label}
            {model.isReference && <small> {own.reference}</small>}
          </Table.Th>
          <Table.Td>{model.sizeBytes === null ? own.unknown : bytes(model.sizeBytes)}</Table.Td>
          <Table.Td>{model.memoryBytes === null ? own.unknown : bytes(model.memoryBytes)}</Table.Td>
          {texts.map((text) => (
            <Figure key={text} of={model.perplexity[text] ?? null} write={rate} />
          ))}
          <Figure of={model.kl} write={fine} />
          <Figure of={model.agreement} write={share} />
          <Figure of={model.decodeTokensPerS} write={rate} />
          <Figure of={model.promptTokensPerS} write={rate} />
          <Figure of={model.firstTokenS} write={(value) => `${seconds(value)} s`} />
        </Table.Tr>
      ))}
    </WideTable>
  );
}

function Figure({ of, write }: { of: Estimate | null; write: (value: number) => string }) {
  const own = useTable(tables);
  if (of === null) return <Table.Td>{own.unknown}</Table.Td>;
  return (
    <Table.Td>
      {write(of.value)}
      {of.low !== null && of.high !== null && <small>{own.interval(write(of.low), write(of.high))}</small>}
    </Table.Td>
  );
}
