import type { CatalogModel } from "./queries";

export interface Filter {
  words: string;
  task: string | null;
  language: string | null;
  license: "commercial" | "unconditional" | null;
  /** "fits": into this machine; a number: at most so many GB of memory. */
  size: "fits" | number | null;
  installed: boolean | null;
}

export const NO_FILTER: Filter = {
  words: "",
  task: null,
  language: null,
  license: null,
  size: null,
  installed: null,
};

export function isFiltering(filter: Filter): boolean {
  return Object.entries(filter).some(([name, value]) => (name === "words" ? value.trim() !== "" : value !== null));
}

/** Those that meet every condition. What is unknown of a model meets none about it. */
export function filtered(models: readonly CatalogModel[], filter: Filter): CatalogModel[] {
  const words = filter.words.toLowerCase().split(/\s+/).filter(Boolean);
  return models.filter(
    (model) =>
      words.every((word) => nameOf(model).includes(word)) &&
      (filter.task === null || model.tasks.includes(filter.task)) &&
      (filter.language === null || model.languages.includes(filter.language)) &&
      (filter.license === null || isAllowed(model, filter.license)) &&
      (filter.size === null || isWithin(model, filter.size)) &&
      (filter.installed === null || model.is_here === filter.installed),
  );
}

function nameOf(model: CatalogModel): string {
  return `${model.name} ${model.source} ${model.family ?? ""} ${model.license ?? ""}`.toLowerCase();
}

function isAllowed(model: CatalogModel, license: "commercial" | "unconditional"): boolean {
  return model.commercial === "yes" || (license === "commercial" && model.commercial === "conditions");
}

function isWithin(model: CatalogModel, size: "fits" | number): boolean {
  if (size === "fits") return model.forecast.fits === "yes" || model.forecast.fits === "tight";
  return model.forecast.memory_bytes !== null && model.forecast.memory_bytes <= size * 1e9;
}

/** Every language that some model speaks, those of most models first. */
export function languagesOf(models: readonly CatalogModel[]): string[] {
  const counts = new Map<string, number>();
  for (const model of models) for (const one of model.languages) counts.set(one, (counts.get(one) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0])).map(([language]) => language);
}

/** "135M", "1.7B". */
export function parametersOf(n: number): string {
  const [value, unit] = n >= 1e9 ? [n / 1e9, "B"] : [n / 1e6, "M"];
  return `${value < 10 ? Number(value.toFixed(1)) : Math.round(value)}${unit}`;
}
