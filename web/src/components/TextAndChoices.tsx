import { Button } from "@mantine/core";
import type { ReactNode } from "react";
import classes from "./TextAndChoices.module.css";

interface Props {
  text: ReactNode;
  samplesLabel: string;
  samples: readonly (readonly [name: string, sample: string])[];
  onSample: (sample: string) => void;
  more?: ReactNode;
  choices: ReactNode;
}

/** A field for a text with samples to begin with, and more of it below; beside it, what else there is to choose. */
export function TextAndChoices({ text, samplesLabel, samples, onSample, more, choices }: Props) {
  return (
    <div className={classes.columns}>
      <div>
        {text}
        <div className={classes.samples}>
          <span id="samples">{samplesLabel}</span>
          {samples.map(([name, sample]) => (
            <Button
              key={name}
              size="compact-xs"
              variant="default"
              aria-describedby="samples"
              onClick={() => onSample(sample)}
            >
              {name}
            </Button>
          ))}
        </div>
        {more}
      </div>
      <div className={classes.choices}>{choices}</div>
    </div>
  );
}
