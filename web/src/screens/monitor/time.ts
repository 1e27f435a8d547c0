import { useLanguage } from "@/i18n";

const UNITS = [
  ["day", 86_400],
  ["hour", 3600],
  ["minute", 60],
] as const;

/** A stretch of time in its largest unit: "42 sec", "3 min", "2 hr". */
export function useDuration(): (seconds: number) => string {
  const language = useLanguage();
  return (seconds) => {
    const [unit, size] = UNITS.find(([, one]) => seconds >= one) ?? (["second", 1] as const);
    return new Intl.NumberFormat(language, { style: "unit", unit, maximumFractionDigits: 0 }).format(
      Math.floor(seconds / size),
    );
  };
}
