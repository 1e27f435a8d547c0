import { useFormats } from "@/i18n";
import { useTable } from "@/i18n/table";
import classes from "./Models.module.css";
import { texts } from "./texts";

interface Props {
  memoryBytes: number | null;
  isExact: boolean;
  tokensPerS: number | null;
  license: string | null;
  commercial: string | null;
}

/** What a model takes here, how fast it would be, and what it may be used for. */
export function Figures({ memoryBytes, isExact, tokensPerS, license, commercial }: Props) {
  const own = useTable(texts);
  const { bytes, rate } = useFormats();
  return (
    <dl className={classes.figures}>
      <div>
        <dt>{own.memory}</dt>
        <dd>
          {memoryBytes === null ? own.unknown : bytes(memoryBytes)}
          {memoryBytes !== null && !isExact && <small> {own.estimated}</small>}
        </dd>
      </div>
      <div>
        <dt>{own.speed}</dt>
        <dd>{tokensPerS === null ? own.unknown : own.tokensPerS(rate(tokensPerS))}</dd>
      </div>
      <div>
        <dt>{own.license}</dt>
        <dd>
          <LicenseText license={license} commercial={commercial} />
        </dd>
      </div>
    </dl>
  );
}

function LicenseText({ license, commercial }: { license: string | null; commercial: string | null }) {
  const own = useTable(texts);
  if (license === null) return own.unknown;
  const terms = {
    yes: own.commercialYes,
    conditions: own.commercialConditions,
    no: own.commercialNo,
    unknown: own.commercialUnknown,
  };
  return (
    <>
      {license} <small>{terms[(commercial ?? "unknown") as keyof typeof terms] ?? commercial}</small>
    </>
  );
}
