import { ActionIcon, Button, CloseButton, NativeSelect, Popover, Text, TextInput, Tooltip } from "@mantine/core";
import { IconAdjustmentsHorizontal } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useStore } from "@/app/store";
import { useText } from "@/i18n";
import {
  readNumber,
  SAMPLING,
  SAMPLING_NAMES,
  type Sampling,
  type SamplingName,
  samplings,
  withNumber,
} from "./preferences";
import { type ContextPolicy, modelQuery } from "./queries";
import classes from "./SamplingPanel.module.css";

interface Props {
  model: string;
  policy: ContextPolicy;
  onPolicy: (policy: ContextPolicy) => void;
}

const NOTHING: Sampling = {};
const POLICIES: readonly ContextPolicy[] = ["strict", "drop_oldest", "summarise"];

/** How answers are drawn, for each model of its own. What is unset is the model's own, and is told as such. */
export function SamplingPanel({ model, policy, onPolicy }: Props) {
  const text = useText();
  const all = useStore(samplings);
  const sampling = all[model] ?? NOTHING;
  const { data: facts } = useQuery(modelQuery(model));
  const n = Object.keys(sampling).length;
  const keep = (next: Sampling) => samplings.set({ ...all, [model]: next });
  return (
    <Popover position="bottom-end" width={340} shadow="md" trapFocus>
      <Popover.Target>
        <Tooltip label={text.sampling.title}>
          <ActionIcon
            size={34}
            variant={n > 0 ? "light" : "subtle"}
            color={n > 0 ? "celadon" : "gray"}
            aria-label={text.sampling.title}
          >
            <IconAdjustmentsHorizontal size={19} stroke={1.6} />
          </ActionIcon>
        </Tooltip>
      </Popover.Target>
      <Popover.Dropdown>
        <div className={classes.panel}>
          <div className={classes.head}>
            <strong>{text.sampling.title}</strong>
            <Button size="compact-xs" variant="subtle" disabled={n === 0} onClick={() => keep(NOTHING)}>
              {text.sampling.clearAll}
            </Button>
          </div>
          <Text size="xs" c="var(--page-faint)">
            {model} – {text.sampling.why}
          </Text>
          <div className={classes.numbers}>
            {SAMPLING_NAMES.map((name) => (
              <NumberField
                key={`${model} ${name} ${n === 0}`}
                name={name}
                value={sampling[name] ?? null}
                own={facts?.sampling[name]}
                onChange={(value) => keep(withNumber(sampling, name, value))}
              />
            ))}
          </div>
          <NativeSelect
            size="xs"
            label={text.sampling.policy}
            value={policy}
            data={POLICIES.map((value) => ({ value, label: text.sampling[value] }))}
            onChange={(event) => onPolicy(event.currentTarget.value as ContextPolicy)}
          />
        </div>
      </Popover.Dropdown>
    </Popover>
  );
}

interface NumberProps {
  name: SamplingName;
  /** Null is unset; 0 is a value. */
  value: number | null;
  own: unknown;
  onChange: (value: number | null) => void;
}

function NumberField({ name, value, own, onChange }: NumberProps) {
  const text = useText();
  const [typed, setTyped] = useState(value === null ? "" : String(value));
  const { least, most } = SAMPLING[name];
  const isWrong = readNumber(name, typed) === undefined;
  const write = (next: string) => {
    setTyped(next);
    const number = readNumber(name, next);
    if (number !== undefined) onChange(number);
  };
  return (
    <TextInput
      size="xs"
      label={text.sampling[name]}
      inputMode="decimal"
      placeholder={typeof own === "number" ? text.sampling.own(String(own)) : text.sampling.unset}
      value={typed}
      error={isWrong ? text.sampling.wrong(String(least), String(most)) : undefined}
      onChange={(event) => write(event.currentTarget.value)}
      rightSection={
        typed === "" ? null : <CloseButton size="xs" aria-label={text.sampling.clear} onClick={() => write("")} />
      }
    />
  );
}
