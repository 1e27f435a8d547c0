import "@mantine/core/styles/Table.layer.css";
import { queryOptions, useQuery } from "@tanstack/react-query";
import { useEffect } from "react";
import { api, told } from "@/api/client";
import { Store, useStore } from "@/app/store";
import { Loaded } from "@/components/Loaded";
import { Screen } from "@/components/Screen";
import { useText } from "@/i18n";
import { useTable } from "@/i18n/table";
import { Figures } from "./Figures";
import { type Sample, sampleOf, withSample } from "./history";
import { Live, ModelTable, ResidentTable } from "./Tables";
import { texts } from "./texts";

// Gently: a look costs the server less than a millisecond. In a hidden tab there is none.
const LOOK_MS = 2000;

const metricsQuery = queryOptions({
  queryKey: ["metrics"],
  queryFn: ({ signal }) => told(api.GET("/madang/v1/metrics", { signal })),
  refetchInterval: (query) => (query.state.error === null ? LOOK_MS : false),
  staleTime: 0,
});

const requestsQuery = queryOptions({
  queryKey: ["requests"],
  queryFn: ({ signal }) => told(api.GET("/madang/v1/requests", { signal })),
  refetchInterval: (query) => (query.state.error === null ? LOOK_MS : false),
  staleTime: 0,
});

/** The last minutes; they stay while another screen is shown. */
const samples = new Store<readonly Sample[]>([]);

/** What the server does now. */
export default function Monitor() {
  const text = useText();
  const own = useTable(texts);
  const metrics = useQuery(metricsQuery);
  const requests = useQuery(requestsQuery);
  const past = useStore(samples);
  const { data, dataUpdatedAt } = metrics;
  useEffect(() => {
    if (data !== undefined && samples.get().at(-1)?.atMs !== dataUpdatedAt) {
      samples.set(withSample(samples.get(), sampleOf(data, dataUpdatedAt)));
    }
  }, [data, dataUpdatedAt]);
  return (
    <Screen title={text.screens.monitor}>
      <Loaded of={metrics} refused={own.refused}>
        {(now) => (
          <>
            <Figures metrics={now} samples={past} gapMs={4 * LOOK_MS} />
            <Loaded of={requests} refused={own.refused}>
              {(live) => <Live requests={live.requests} nowMs={requests.dataUpdatedAt} />}
            </Loaded>
            <ModelTable models={now.models} />
            <ResidentTable resident={now.resident} />
          </>
        )}
      </Loaded>
    </Screen>
  );
}
