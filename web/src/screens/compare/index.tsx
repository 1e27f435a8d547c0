import "@mantine/core/styles/NumberInput.layer.css";
import "@mantine/core/styles/Pill.layer.css";
import "@mantine/core/styles/PillsInput.layer.css";
import "@mantine/core/styles/Progress.layer.css";
import "@mantine/core/styles/SegmentedControl.layer.css";
import "@mantine/core/styles/Switch.layer.css";
import "@mantine/core/styles/Table.layer.css";
import "@mantine/core/styles/Tabs.layer.css";
import { Button, Tabs } from "@mantine/core";
import { IconArrowsDiff } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link, useLocation } from "wouter";
import { Loaded } from "@/components/Loaded";
import { Screen } from "@/components/Screen";
import { EmptyState } from "@/components/States";
import { useText } from "@/i18n";
import { useTable } from "@/i18n/table";
import { modelsQuery } from "../models/queries";
import classes from "./Compare.module.css";
import { MeasuredView } from "./MeasuredView";
import { SideBySide } from "./SideBySide";
import { texts } from "./texts";

/** `/compare`: the same prompt to several; `/compare/measured`: quality, speed and size, as they were measured. */
export default function Compare() {
  const text = useText();
  const own = useTable(texts);
  const [path, go] = useLocation();
  const models = useQuery(modelsQuery);
  const view = path.split("/")[2] === "measured" ? "measured" : "side";
  return (
    <Screen title={text.screens.compare}>
      <Tabs
        value={view}
        onChange={(value) => go(value === "side" ? "/compare" : "/compare/measured")}
        keepMounted={false}
      >
        <Tabs.List aria-label={own.views} className={classes.tabs ?? ""}>
          <Tabs.Tab value="side">{own.side}</Tabs.Tab>
          <Tabs.Tab value="measured">{own.measured}</Tabs.Tab>
        </Tabs.List>
        <Loaded of={models}>
          {({ models: all }) => {
            const names = all.filter((one) => one.capabilities.includes("completion")).map((one) => one.name);
            return (
              <>
                <Tabs.Panel value="side">{names.length < 2 ? <NotEnough /> : <SideBySide models={names} />}</Tabs.Panel>
                <Tabs.Panel value="measured">
                  <MeasuredView models={names} />
                </Tabs.Panel>
              </>
            );
          }}
        </Loaded>
      </Tabs>
    </Screen>
  );
}

function NotEnough() {
  const own = useTable(texts);
  return (
    <EmptyState
      icon={IconArrowsDiff}
      title={own.noneToCompare}
      action={
        <Button component={Link} href="/models/catalog">
          {own.toCatalog}
        </Button>
      }
    >
      {own.noneToCompareWhy}
    </EmptyState>
  );
}
