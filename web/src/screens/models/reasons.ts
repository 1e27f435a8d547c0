import type { Schemas } from "@/api/client";
import { useLanguage } from "@/i18n";
import ko from "./reasons.ko.json";
import { texts } from "./texts";

type Sentence = Schemas["Sentence"];
export const KOREAN: Readonly<Record<string, string>> = { ...ko, ...texts.ko.tasks };

/** Says a sentence of the server in the language of the page: by its template, or as it is where nobody translated it. */
export function useReason(): (told: Sentence | string) => string {
  const table = useLanguage() === "ko" ? KOREAN : {};
  return (told) => said(typeof told === "string" ? { template: told, fields: {} } : told, table);
}

export function said({ template, fields }: Sentence, table: Readonly<Record<string, string>>): string {
  const say = (text: string) => table[text] ?? text;
  return say(template).replace(/\{(\w+)\}/g, (braces, name: string) => say(fields[name] ?? braces));
}
