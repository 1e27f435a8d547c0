import { Badge, Table } from "@mantine/core";
import type { Schemas } from "@/api/client";
import { Section } from "@/components/Screen";
import { WideTable } from "@/components/WideTable";
import { useFormats } from "@/i18n";
import { useTable } from "@/i18n/table";
import type { Metrics } from "./history";
import classes from "./Monitor.module.css";
import { texts } from "./texts";
import { useDuration } from "./time";

type Request = Schemas["LiveRequest"];

/** Every request that runs or waits. */
export function Live({ requests, nowMs }: { requests: readonly Request[]; nowMs: number }) {
  const own = useTable(texts);
  const { count, rate } = useFormats();
  const duration = useDuration();
  return (
    <Section title={own.live}>
      {requests.length === 0 ? (
        <p className={classes.nothing}>
          {own.none} <span className={classes.faint}>{own.noneWhy}</span>
        </p>
      ) : (
        <WideTable
          label={own.live}
          heads={[own.model, own.state, own.since, own.prompt, own.answer, own.rate, own.path, own.key]}
        >
          {requests.map((one) => (
            <Table.Tr key={one.id}>
              <Table.Th scope="row">{one.model}</Table.Th>
              <Table.Td>
                <Badge variant="default" tt="none" className={classes.state ?? ""} data-state={one.state}>
                  {own.states[one.state]}
                </Badge>
              </Table.Td>
              <Table.Td>{duration(Math.max(0, (nowMs - Date.parse(one.started_at)) / 1000))}</Table.Td>
              <Table.Td>{one.prompt_tokens === null ? own.unknown : count(one.prompt_tokens)}</Table.Td>
              <Table.Td>{count(one.completion_tokens)}</Table.Td>
              <Table.Td>{one.tokens_s === null ? own.unknown : own.perS(rate(one.tokens_s))}</Table.Td>
              <Table.Td>
                <code>{one.path}</code>
              </Table.Td>
              <Table.Td>{one.key === "" ? own.noKey : one.key}</Table.Td>
            </Table.Tr>
          ))}
        </WideTable>
      )}
    </Section>
  );
}

/** What each model did since the start, and its latest latencies. */
export function ModelTable({ models }: { models: Metrics["models"] }) {
  const own = useTable(texts);
  const { count, rate } = useFormats();
  const rows = Object.entries(models);
  const percentiles = `, ${own.percentiles}`;
  return (
    <Section title={own.models}>
      {rows.length === 0 ? (
        <p className={classes.nothing}>{own.noModels}</p>
      ) : (
        <WideTable
          label={own.models}
          heads={[
            own.model,
            own.requests,
            own.tokens,
            own.rate,
            own.cacheHits,
            own.first + percentiles,
            own.between + percentiles,
            own.drafted,
          ]}
        >
          {rows.map(([name, model]) => (
            <Table.Tr key={name}>
              <Table.Th scope="row">{name}</Table.Th>
              <Table.Td>
                {count(model.requests)}
                {model.failures > 0 && (
                  <div className={classes.bad}>
                    {own.failures}: {count(model.failures)}
                  </div>
                )}
              </Table.Td>
              <Table.Td>{count(model.generation_tokens)}</Table.Td>
              <Table.Td>{own.perS(rate(model.tokens_per_s))}</Table.Td>
              <Table.Td>
                {model.cache_hit_share === null ? own.unknown : `${Math.round(model.cache_hit_share * 100)} %`}
              </Table.Td>
              <Table.Td>
                <Latency of={model.time_to_first_token_s} />
              </Table.Td>
              <Table.Td>
                <Latency of={model.inter_token_latency_s} />
              </Table.Td>
              <Table.Td>
                {model.drafted_tokens === 0 ? (
                  own.unknown
                ) : (
                  <span title={own.draftedWhy(count(model.accepted_tokens), count(model.drafted_tokens))}>
                    {Math.round((model.accepted_tokens / model.drafted_tokens) * 100)} %
                  </span>
                )}
              </Table.Td>
            </Table.Tr>
          ))}
        </WideTable>
      )}
    </Section>
  );
}

/** Three percentiles; null before the first generation. */
function Latency({ of }: { of: Schemas["Percentiles"] | null }) {
  const own = useTable(texts);
  const { seconds, count } = useFormats();
  if (of === null) return own.unknown;
  const write = (value: number) =>
    value < 1
      ? own.ms(value < 0.01 ? (value * 1000).toFixed(1) : count(Math.round(value * 1000)))
      : own.s(seconds(value));
  return (
    <span className={classes.latency}>
      <span title={own.p50}>{write(of.p50)}</span>
      <span title={own.p95}>{write(of.p95)}</span>
      <span title={own.p99}>{write(of.p99)}</span>
    </span>
  );
}

/** The models in memory. */
export function ResidentTable({ resident }: { resident: Metrics["resident"] }) {
  const own = useTable(texts);
  const { bytes, count, time } = useFormats();
  return (
    <Section title={own.resident}>
      {resident.length === 0 ? (
        <p className={classes.nothing}>{own.noResident}</p>
      ) : (
        <WideTable label={own.resident} heads={[own.model, own.size, own.context, own.engine, own.users, own.until]}>
          {resident.map((one) => (
            <Table.Tr key={one.model}>
              <Table.Th scope="row">{one.model}</Table.Th>
              <Table.Td>{bytes(one.size_bytes)}</Table.Td>
              <Table.Td>{count(one.context_tokens)}</Table.Td>
              <Table.Td>{one.engine}</Table.Td>
              <Table.Td>{count(one.leases)}</Table.Td>
              <Table.Td>{one.expires_at === null ? own.stays : time(one.expires_at)}</Table.Td>
            </Table.Tr>
          ))}
        </WideTable>
      )}
    </Section>
  );
}
