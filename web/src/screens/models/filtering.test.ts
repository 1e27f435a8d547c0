import { describe, expect, test } from "vitest";
import { filtered, isFiltering, languagesOf, NO_FILTER, parametersOf } from "./filtering";
import { RateMeter } from "./following";
import type { CatalogModel } from "./queries";

function model(
  more: Partial<CatalogModel> & { memory?: number | null; fits?: "yes" | "tight" | "no" | null },
): CatalogModel {
  const { memory = 1e9, fits = "yes", ...rest } = more;
  return {
    name: "a:1b",
    source: "hf:maker/a",
    task: "chat",
    tasks: ["general"],
    parameters: 1e9,
    context_tokens: 4096,
    license: "MIT",
    commercial: "yes",
    languages: ["en"],
    size_bytes: null,
    is_here: false,
    family: null,
    year: null,
    note: null,
    types: [],
    forecast: { type: "Q4_K_M", fits, memory_bytes: memory, context_tokens: 4096, tokens_per_s: null, is_exact: true },
    ...rest,
  };
}

describe("the catalog's filters", () => {
  const small = model({ name: "small:135m", memory: 0.3e9, is_here: true });
  const korean = model({ name: "korean:8b", languages: ["ko", "en"], tasks: ["general", "korean"], commercial: "no" });
  const large = model({ name: "large:70b", memory: 40e9, fits: "no", commercial: "conditions" });
  const unknown = model({ name: "riddle", memory: null, fits: null, commercial: "unknown" });
  const all = [small, korean, large, unknown];
  const names = (filter: Partial<typeof NO_FILTER>) =>
    filtered(all, { ...NO_FILTER, ...filter }).map((one) => one.name);

  test("let everything pass while nothing is asked for", () => {
    expect(names({})).toHaveLength(4);
    expect(isFiltering({ ...NO_FILTER, words: "  " })).toBe(false);
    expect(isFiltering({ ...NO_FILTER, installed: false })).toBe(true);
  });

  test("want every word, in whatever order", () => {
    expect(names({ words: "135M small" })).toEqual(["small:135m"]);
    expect(names({ words: "small korean" })).toEqual([]);
  });

  test("hold one condition each", () => {
    expect(names({ task: "korean" })).toEqual(["korean:8b"]);
    expect(names({ language: "ko" })).toEqual(["korean:8b"]);
    expect(names({ license: "commercial" })).toEqual(["small:135m", "large:70b"]);
    expect(names({ license: "unconditional" })).toEqual(["small:135m"]);
    expect(names({ installed: true })).toEqual(["small:135m"]);
    expect(names({ installed: false })).toHaveLength(3);
  });

  test("never take what is unknown for what fits", () => {
    expect(names({ size: "fits" })).toEqual(["small:135m", "korean:8b"]);
    expect(names({ size: 2 })).toEqual(["small:135m", "korean:8b"]);
  });

  test("list languages by how many models speak them", () => {
    expect(languagesOf(all)).toEqual(["en", "ko"]);
  });
});

test("numbers of parameters are written as makers write them", () => {
  expect([134515008, 1711376384, 8e9, 14.7e9].map(parametersOf)).toEqual(["135M", "1.7B", "8B", "15B"]);
});

describe("the rate of a download", () => {
  test("is of the last seconds", () => {
    const meter = new RateMeter();
    meter.see(0, 0);
    expect(meter.rate(100)).toBeNull();
    meter.see(1000, 50);
    expect(meter.rate(100)).toEqual({ bytesPerS: 50, leftS: 1 });
    expect(meter.rate(null)).toEqual({ bytesPerS: 50, leftS: null });
    meter.see(9000, 50);
    meter.see(10_000, 60);
    expect(meter.rate(100)?.bytesPerS).toBeLessThan(11);
  });

  test("begins anew when a file does", () => {
    const meter = new RateMeter();
    meter.see(0, 80);
    meter.see(1000, 90);
    meter.see(2000, 10);
    expect(meter.rate(100)).toBeNull();
    meter.see(3000, 30);
    expect(meter.rate(100)).toEqual({ bytesPerS: 20, leftS: 3.5 });
  });
});
