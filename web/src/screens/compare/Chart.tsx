import { useId } from "react";
import { useTable } from "@/i18n/table";
import classes from "./Compare.module.css";
import { labelsOf, type Point, ticksOf } from "./plots";
import { texts } from "./texts";

interface Axis {
  title: string;
  write: (value: number) => string;
}

const WIDTH = 640;
const HEIGHT = 340;
const LEFT = 72;
const RIGHT = 36;
const TOP = 18;
const BOTTOM = 50;
const SHAPES = [
  "M-6 0a6 6 0 1 0 12 0a6 6 0 1 0-12 0",
  "M-5.5-5.5h11v11h-11z",
  "M0-7L7 5.5H-7z",
  "M0-7.5L7.5 0L0 7.5L-7.5 0z",
];

/**
 * Points with names over two axes that begin at 0, so that proportions are seen. Shapes and names tell them apart,
 * colours only help; the table beside it has every number.
 */
export function Chart({ x, y, points }: { x: Axis; y: Axis; points: readonly Point[] }) {
  const own = useTable(texts);
  const name = useId();
  if (points.length === 0) return <p className={classes.faint}>{own.noPoints}</p>;
  const xTicks = ticksOf(Math.max(...points.map((point) => point.x)));
  const yTicks = ticksOf(Math.max(...points.map((point) => Math.max(point.y, point.high ?? point.y))));
  const across = (value: number) => LEFT + ((WIDTH - LEFT - RIGHT) * value) / (xTicks.at(-1) ?? 1);
  const up = (value: number) => HEIGHT - BOTTOM - ((HEIGHT - TOP - BOTTOM) * value) / (yTicks.at(-1) ?? 1);
  const placed = points.map((point) => ({ ...point, atX: across(point.x), atY: up(point.y) }));
  const labels = labelsOf(
    placed.map((point) => ({ label: point.label, x: point.atX, y: point.atY })),
    WIDTH - 4,
  );
  return (
    <svg
      className={classes.chart}
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      role="img"
      aria-labelledby={`${name}-title ${name}-points`}
    >
      <title id={`${name}-title`}>{own.chartOf(y.title, x.title)}</title>
      <desc id={`${name}-points`}>
        {points.map((point) => own.chartPoint(point.label, x.write(point.x), y.write(point.y))).join("; ")}
      </desc>
      <g aria-hidden>
        {yTicks.map((value) => (
          <g key={value}>
            <line className={classes.grid} x1={LEFT} x2={WIDTH - RIGHT} y1={up(value)} y2={up(value)} />
            <text className={classes.tick} x={LEFT - 8} y={up(value) + 4} textAnchor="end">
              {y.write(value)}
            </text>
          </g>
        ))}
        {xTicks.map((value) => (
          <g key={value}>
            <line
              className={classes.axis}
              x1={across(value)}
              x2={across(value)}
              y1={HEIGHT - BOTTOM}
              y2={HEIGHT - BOTTOM + 5}
            />
            <text className={classes.tick} x={across(value)} y={HEIGHT - BOTTOM + 19} textAnchor="middle">
              {x.write(value)}
            </text>
          </g>
        ))}
        <line className={classes.axis} x1={LEFT} x2={WIDTH - RIGHT} y1={HEIGHT - BOTTOM} y2={HEIGHT - BOTTOM} />
        <text className={classes.axisName} x={(LEFT + WIDTH - RIGHT) / 2} y={HEIGHT - 8} textAnchor="middle">
          {x.title}
        </text>
        <text
          className={classes.axisName}
          textAnchor="middle"
          transform={`translate(15 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)`}
        >
          {y.title}
        </text>
        {placed.map((point, index) => (
          <g key={point.label} className={classes.point} data-colour={index % 5}>
            {point.low !== null && point.high !== null && (
              <line x1={point.atX} x2={point.atX} y1={up(point.low)} y2={up(point.high)} />
            )}
            <path d={SHAPES[index % SHAPES.length]} transform={`translate(${point.atX} ${point.atY})`} />
            <text x={labels[index]?.x} y={labels[index]?.y} textAnchor={labels[index]?.anchor}>
              {point.label}
            </text>
          </g>
        ))}
      </g>
    </svg>
  );
}
