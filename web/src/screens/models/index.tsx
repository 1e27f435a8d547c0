import "@mantine/core/styles/Tabs.layer.css";
import "@mantine/core/styles/Progress.layer.css";
import "@mantine/core/styles/NumberInput.layer.css";
import { Button, Tabs, Text } from "@mantine/core";
import { IconDownload } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useLocation } from "wouter";
import { Screen } from "@/components/Screen";
import { useFormats, useText } from "@/i18n";
import { useTable } from "@/i18n/table";
import { Catalog } from "./Catalog";
import { usePulls } from "./following";
import { Installed } from "./Installed";
import classes from "./Models.module.css";
import { PullDialog } from "./PullDialog";
import { Pulls } from "./Pulls";
import { machineQuery } from "./queries";
import { Recommend } from "./Recommend";
import { texts } from "./texts";

const VIEWS = ["installed", "catalog", "recommend"] as const;
type View = (typeof VIEWS)[number];

/** `/models`, `/models/catalog`, `/models/recommend`. */
export default function Models() {
  const text = useText();
  const own = useTable(texts);
  const [path, go] = useLocation();
  const [isAsking, setAsking] = useState(false);
  const pulls = usePulls();
  const view = viewOf(path);
  return (
    <Screen
      title={text.screens.models}
      actions={
        <Button variant="default" leftSection={<IconDownload size={16} />} onClick={() => setAsking(true)}>
          {own.pullAny}
        </Button>
      }
    >
      <MachineLine />
      <Pulls pulls={pulls} />
      <Tabs
        value={view}
        onChange={(value) => go(value === "installed" ? "/models" : `/models/${value}`)}
        keepMounted={false}
      >
        <Tabs.List aria-label={own.views} className={classes.tabs ?? ""}>
          {VIEWS.map((name) => (
            <Tabs.Tab key={name} value={name}>
              {own[name]}
            </Tabs.Tab>
          ))}
        </Tabs.List>
        <Tabs.Panel value="installed">
          <Installed />
        </Tabs.Panel>
        <Tabs.Panel value="catalog">
          <Catalog pulls={pulls} />
        </Tabs.Panel>
        <Tabs.Panel value="recommend">
          <Recommend pulls={pulls} />
        </Tabs.Panel>
      </Tabs>
      {isAsking && <PullDialog onClose={() => setAsking(false)} />}
    </Screen>
  );
}

function viewOf(path: string): View {
  const second = path.split("/")[2];
  return VIEWS.find((view) => view === second) ?? "installed";
}

/** What there is to run them on. A key that may not see it misses only this line. */
function MachineLine() {
  const own = useTable(texts);
  const { bytes } = useFormats();
  const { data } = useQuery(machineQuery);
  if (data === undefined) return null;
  const machine = data.machine;
  const number = (name: string) => (typeof machine[name] === "number" ? machine[name] : null);
  const free = number("ram_available_bytes");
  const total = number("ram_total_bytes");
  const disk = number("disk_free_bytes");
  const cores = number("physical_cores");
  const parts = [
    typeof machine.cpu === "string" ? machine.cpu : null,
    cores === null ? null : own.cores(cores),
    free === null || total === null ? null : own.machine(bytes(free), bytes(total)),
    disk === null ? null : own.disk(bytes(disk)),
  ];
  return (
    <Text size="sm" c="var(--page-faint)" className={classes.machine ?? ""}>
      {parts.filter((part) => part !== null).join(" · ")}
    </Text>
  );
}
