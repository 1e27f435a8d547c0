import { Drawer } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import type { Schemas } from "@/api/client";
import { Loaded } from "@/components/Loaded";
import { useFormats, useText } from "@/i18n";
import { useTable } from "@/i18n/table";
import classes from "./Plan.module.css";
import { planQuery } from "./queries";
import { useReason } from "./reasons";
import { texts } from "./texts";

/** How a model would be loaded now: each setting with its reason. */
export function PlanDrawer({ name, onClose }: { name: string; onClose: () => void }) {
  const text = useText();
  const own = useTable(texts);
  const plan = useQuery(planQuery(name));
  return (
    <Drawer
      opened
      onClose={onClose}
      position="right"
      size="md"
      title={own.planOf(name)}
      closeButtonProps={{ "aria-label": text.app.close }}
    >
      <Loaded of={plan}>{(found) => <PlanView plan={found} />}</Loaded>
    </Drawer>
  );
}

function PlanView({ plan }: { plan: Schemas["ModelPlan"] }) {
  const own = useTable(texts);
  const reason = useReason();
  return (
    <div className={classes.plan}>
      <p className={classes.engine}>{own.planEngine(plan.engine, reason(plan.engine_told))}</p>
      <h3 className={classes.heading}>{own.planMemory}</h3>
      {plan.memory === null ? <p>{own.noMemory}</p> : <MemoryParts memory={plan.memory} />}
      <h3 className={classes.heading}>{own.choices}</h3>
      <dl className={classes.choices}>
        {plan.choices.map((choice) => (
          <ChoiceRow key={choice.name} choice={choice} />
        ))}
      </dl>
    </div>
  );
}

function MemoryParts({ memory }: { memory: Schemas["Memory"] }) {
  const own = useTable(texts);
  const { bytes } = useFormats();
  const parts = [
    [own.weights, memory.weights_bytes],
    [own.kvCache, memory.kv_cache_bytes],
    [own.working, memory.working_bytes],
  ] as const;
  return (
    <>
      <div className={classes.bar} aria-hidden>
        {parts.map(([name, size]) => (
          <span key={name} style={{ flexGrow: size }} />
        ))}
      </div>
      <dl className={classes.parts}>
        {parts.map(([name, size]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{bytes(size)}</dd>
          </div>
        ))}
        <div>
          <dt>{own.total}</dt>
          <dd>{bytes(memory.total_bytes)}</dd>
        </div>
      </dl>
    </>
  );
}

function ChoiceRow({ choice }: { choice: Schemas["Choice"] }) {
  const own = useTable(texts);
  const { bytes, count } = useFormats();
  const reason = useReason();
  const name = own.settings[choice.name as keyof typeof own.settings] ?? choice.name;
  return (
    <div>
      <dt>
        {name}
        <strong>{valueText()}</strong>
      </dt>
      <dd>{reason(choice.told)}</dd>
    </div>
  );

  function valueText(): string {
    if (choice.value === null) return "–";
    if (typeof choice.value !== "number") return String(choice.value);
    return choice.name.endsWith("_bytes") ? bytes(choice.value) : count(choice.value);
  }
}
