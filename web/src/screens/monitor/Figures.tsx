import { useFormats } from "@/i18n";
import { useTable } from "@/i18n/table";
import { KEPT_MS, lineOf, type Metrics, type Sample, sampleOf } from "./history";
import classes from "./Monitor.module.css";
import { texts } from "./texts";
import { useDuration } from "./time";

interface Props {
  metrics: Metrics;
  samples: readonly Sample[];
  gapMs: number;
}

/** The figures of this moment, each with its last minutes. */
export function Figures({ metrics, samples, gapMs }: Props) {
  const own = useTable(texts);
  const { bytes, count, rate } = useFormats();
  const duration = useDuration();
  const now = sampleOf(metrics, 0);
  const percent = (share: number) => `${Math.round(share * 100)} %`;
  const line = { samples, gapMs };
  return (
    <section aria-label={own.now} className={classes.now}>
      <Figure label={own.running} value={count(now.running)} more={`${own.waiting}: ${count(now.waiting)}`}>
        <Sparkline {...line} of={(one) => one.running + one.waiting} write={count} label={own.running} />
      </Figure>
      <Figure label={own.tokensPerS} value={rate(now.tokensPerS)} more={own.uptime(duration(metrics.uptime_s))}>
        <Sparkline {...line} of={(one) => one.tokensPerS} write={rate} label={own.tokensPerS} />
      </Figure>
      <Figure
        label={own.cacheHits}
        value={now.cacheHitShare === null ? own.unknown : percent(now.cacheHitShare)}
        more={own.cacheHitsWhy}
      >
        <Sparkline {...line} of={(one) => one.cacheHitShare} write={percent} label={own.cacheHits} />
      </Figure>
      <Figure label={own.processMemory} value={bytes(now.processBytes)}>
        <Sparkline {...line} of={(one) => one.processBytes} write={bytes} label={own.processMemory} />
      </Figure>
      <Figure
        label={own.machineMemory}
        value={bytes(now.usedBytes)}
        more={own.ofTotal(bytes(metrics.memory.machine_total_bytes))}
      >
        <Sparkline {...line} of={(one) => one.usedBytes} write={bytes} label={own.machineMemory} />
      </Figure>
    </section>
  );
}

interface FigureProps {
  label: string;
  value: string;
  more?: string;
  children: React.ReactNode;
}

function Figure({ label, value, more, children }: FigureProps) {
  return (
    <div className={classes.figure}>
      <h2 className={classes.figureName}>{label}</h2>
      <span className={classes.figureValue}>{value}</span>
      <span className={classes.figureMore}>{more ?? " "}</span>
      {children}
    </div>
  );
}

interface SparklineProps {
  samples: readonly Sample[];
  gapMs: number;
  of: (sample: Sample) => number | null;
  write: (value: number) => string;
  label: string;
}

const SIZE = { width: 200, height: 36 };

/** The last minutes as a line from zero; its ends are told in words. */
function Sparkline({ samples, gapMs, of, write, label }: SparklineProps) {
  const own = useTable(texts);
  const points = samples.flatMap((sample) => {
    const value = of(sample);
    return value === null ? [] : [{ atMs: sample.atMs, value }];
  });
  const values = points.map((point) => point.value);
  const told =
    values.length === 0
      ? label
      : `${label}: ${own.minutes(String(KEPT_MS / 60_000))}, ${own.least(write(Math.min(...values)))}, ${own.most(write(Math.max(...values)))}`;
  const path = lineOf(points, samples.at(-1)?.atMs ?? 0, SIZE, gapMs);
  return (
    <svg
      className={classes.sparkline}
      viewBox={`0 0 ${SIZE.width} ${SIZE.height}`}
      preserveAspectRatio="none"
      role="img"
      aria-label={told}
    >
      <title>{told}</title>
      <path d={`M0 ${SIZE.height - 1}H${SIZE.width}`} className={classes.ground} />
      {points.length > 1 && <path d={path} className={classes.line} />}
    </svg>
  );
}
