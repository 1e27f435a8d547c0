import { ActionIcon, Badge, Button, Menu, Tooltip } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { IconCube, IconDots, IconListDetails, IconTrash } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "wouter";
import { Confirm } from "@/components/Confirm";
import { Loaded } from "@/components/Loaded";
import { EmptyState, FailureText } from "@/components/States";
import { useFormats, useLanguage, useText } from "@/i18n";
import { useTable } from "@/i18n/table";
import { parametersOf } from "./filtering";
import classes from "./Models.module.css";
import { PlanDrawer } from "./PlanDrawer";
import { type Model, modelsQuery, type Resident, residentQuery, useLoad, useRemove, useUnload } from "./queries";
import { texts } from "./texts";

/** The models of this machine. */
export function Installed() {
  const own = useTable(texts);
  const models = useQuery(modelsQuery);
  const resident = useQuery(residentQuery);
  const [planned, setPlanned] = useState<string | null>(null);
  const [unwanted, setUnwanted] = useState<Model | null>(null);
  return (
    <Loaded of={models}>
      {({ models: all }) =>
        all.length === 0 ? (
          <EmptyState
            icon={IconCube}
            title={own.noneInstalled}
            action={
              <Button component={Link} href="/models/catalog">
                {own.toCatalog}
              </Button>
            }
          >
            {own.noneInstalledWhy}
          </EmptyState>
        ) : (
          <>
            <ul className={classes.cards}>
              {all.map((model) => (
                <ModelCard
                  key={model.name}
                  model={model}
                  resident={resident.data?.models.find((one) => one.name === model.name) ?? null}
                  onPlan={() => setPlanned(model.name)}
                  onRemove={() => setUnwanted(model)}
                />
              ))}
            </ul>
            {planned !== null && <PlanDrawer name={planned} onClose={() => setPlanned(null)} />}
            {unwanted !== null && <RemoveDialog model={unwanted} onClose={() => setUnwanted(null)} />}
          </>
        )
      }
    </Loaded>
  );
}

interface CardProps {
  model: Model;
  resident: Resident | null;
  onPlan: () => void;
  onRemove: () => void;
}

function ModelCard({ model, resident, onPlan, onRemove }: CardProps) {
  const own = useTable(texts);
  const { bytes, count } = useFormats();
  const capability = (name: string) => own.capabilities[name as keyof typeof own.capabilities] ?? name;
  const facts = [
    model.parameters === null ? null : parametersOf(model.parameters),
    model.quantization,
    bytes(model.size_bytes),
    model.context_tokens === null ? null : own.contextTokens(count(model.context_tokens)),
  ];
  return (
    <li className={classes.card} data-resident={resident !== null || undefined}>
      <div className={classes.cardHead}>
        <h2 className={classes.cardName}>{model.name}</h2>
        <Menu position="bottom-end" withinPortal>
          <Menu.Target>
            <ActionIcon aria-label={own.more(model.name)}>
              <IconDots size={18} />
            </ActionIcon>
          </Menu.Target>
          <Menu.Dropdown>
            <Menu.Item leftSection={<IconListDetails size={16} />} onClick={onPlan}>
              {own.planOf(model.name)}
            </Menu.Item>
            <Menu.Item leftSection={<IconTrash size={16} />} color="red" onClick={onRemove}>
              {own.remove}
            </Menu.Item>
          </Menu.Dropdown>
        </Menu>
      </div>
      <p className={classes.facts}>{facts.filter(Boolean).join(" · ")}</p>
      <p className={classes.source} title={model.source}>
        {own.source}: {model.source}
      </p>
      <div className={classes.badges}>
        {model.capabilities.map((name) => (
          <Badge key={name} variant="default" tt="none" fw={500}>
            {capability(name)}
          </Badge>
        ))}
        {resident !== null && <ResidentBadge resident={resident} />}
      </div>
      <div className={classes.cardActions}>
        <LoadButton model={model} resident={resident} />
        <Button size="compact-sm" variant="default" onClick={onPlan}>
          {own.plan}
        </Button>
      </div>
    </li>
  );
}

function ResidentBadge({ resident }: { resident: Resident }) {
  const own = useTable(texts);
  const { bytes } = useFormats();
  const clock = useClock();
  const until = resident.expires_at === null ? own.inMemoryFor : own.inMemoryUntil(clock(resident.expires_at));
  const more = [bytes(resident.size_bytes), resident.engine];
  if (resident.leases > 0) more.push(own.inUse(resident.leases));
  return (
    <Tooltip label={resident.reason} multiline maw={320}>
      <Badge variant="light" tt="none" fw={600} color="celadon" className={classes.resident ?? ""} tabIndex={0}>
        {until} · {more.join(" · ")}
      </Badge>
    </Tooltip>
  );
}

function useClock(): (time: string) => string {
  const language = useLanguage();
  return (time) => new Intl.DateTimeFormat(language, { timeStyle: "short" }).format(new Date(time));
}

function LoadButton({ model, resident }: { model: Model; resident: Resident | null }) {
  const own = useTable(texts);
  const load = useLoad();
  const unload = useUnload();
  const failed = (error: unknown) =>
    notifications.show({ color: "red", title: own.loadFailed(model.name), message: <FailureText error={error} /> });
  if (resident !== null) {
    return (
      <Button
        size="compact-sm"
        variant="default"
        loading={unload.isPending}
        onClick={() =>
          unload.mutate(model.name, {
            onSuccess: () => resident.leases > 0 && notifications.show({ message: own.unloaded(model.name) }),
            onError: failed,
          })
        }
      >
        {own.unload}
      </Button>
    );
  }
  return (
    <Button
      size="compact-sm"
      variant="light"
      loading={load.isPending}
      onClick={() => load.mutate(model, { onError: failed })}
    >
      {own.load}
    </Button>
  );
}

function RemoveDialog({ model, onClose }: { model: Model; onClose: () => void }) {
  const text = useText();
  const own = useTable(texts);
  const { bytes } = useFormats();
  const remove = useRemove();
  return (
    <Confirm
      title={own.removeTitle(model.name)}
      action={text.app.remove}
      isBusy={remove.isPending}
      error={remove.error}
      onClose={onClose}
      onConfirm={() =>
        remove.mutate(model.name, {
          onSuccess: ({ freed_bytes }) => {
            notifications.show({ message: own.removed(model.name, bytes(freed_bytes)) });
            onClose();
          },
        })
      }
    >
      {own.removeWhy(bytes(model.size_bytes))}
    </Confirm>
  );
}
