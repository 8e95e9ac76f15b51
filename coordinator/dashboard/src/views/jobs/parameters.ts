// A template's parameters as fields of a form: what each takes is read from the words that the API describes it by.
import type { JobTemplate } from "~/api/types";

export type ParameterKind = "int" | "float" | "bool" | "text";

export interface Parameter {
  name: string;
  kind: ParameterKind;
  least: number | null;
  most: number | null;
  /** What it is when nobody says it; null: it has to be said. */
  fallback: string | null;
  /** The API's own words. */
  words: string;
}

const KINDS: Record<string, ParameterKind> = {
  int: "int",
  integer: "int",
  float: "float",
  number: "float",
  bool: "bool",
  boolean: "bool",
};
const NUMBER = String.raw`-?\d+(?:\.\d+)?(?:e[-+]?\d+)?`;

function numberIn(words: string, pattern: string): number | null {
  const found = new RegExp(pattern, "i").exec(words);
  return found?.[1] === undefined ? null : Number(found[1]);
}

/** "int from 1 to 100, default 3" is a whole number of 1 to 100. What is not understood is a text: the API judges it. */
export function readParameter(name: string, words: string): Parameter {
  const first = /^[a-z]+/i.exec(words)?.[0].toLowerCase() ?? "";
  const kind = KINDS[first] ?? "text";
  const numeric = kind === "int" || kind === "float";
  return {
    name,
    kind,
    least: numeric
      ? (numberIn(words, `(${NUMBER}) to `) ?? numberIn(words, `(?:at least|from|least) (${NUMBER})`))
      : null,
    most: numeric ? (numberIn(words, ` to (${NUMBER})`) ?? numberIn(words, `(?:at most|most) (${NUMBER})`)) : null,
    fallback: /.*\bdefault (.*)$/.exec(words)?.[1] ?? null,
    words,
  };
}

export function parametersOf(template: JobTemplate): readonly Parameter[] {
  return Object.entries(template.parameters).map(([name, words]) => readParameter(name, words));
}

export type Reading = { ok: true; value: string | number | boolean | undefined } | { ok: false; problem: string };

const TEXT_MAX = 256;

/** What a field's text says; undefined leaves the parameter at its default. */
export function readValue(parameter: Parameter, text: string): Reading {
  const { kind, least, most, fallback } = parameter;
  if (kind === "bool") return { ok: true, value: text === "true" };
  if (text === "") return fallback === null ? { ok: false, problem: "Say a value." } : { ok: true, value: undefined };
  if (kind === "text") {
    if (text.startsWith("-")) return { ok: false, problem: "It must not begin with a dash." };
    if (text.length > TEXT_MAX) return { ok: false, problem: `It has at most ${TEXT_MAX} characters.` };
    return { ok: true, value: text };
  }
  const value = Number(text);
  if (!Number.isFinite(value) || text.trim() === "") return { ok: false, problem: "It is no number." };
  if (kind === "int" && !Number.isSafeInteger(value)) return { ok: false, problem: "It has to be a whole number." };
  if (least !== null && value < least) return { ok: false, problem: `It is at least ${least}.` };
  if (most !== null && value > most) return { ok: false, problem: `It is at most ${most}.` };
  return { ok: true, value };
}

const NAME_MAX = 128;

/** Why a job cannot be called so; "" where it can. */
export function nameProblem(name: string): string {
  if (name === "") return "Say a name.";
  if (name.length > NAME_MAX) return `It has at most ${NAME_MAX} characters.`;
  return /^[A-Za-z0-9_.-]+$/.test(name) ? "" : "Letters, digits, dots, dashes and underscores only.";
}

/** A name that is not taken: the template's with the next number. */
export function freeName(type: string, taken: readonly string[]): string {
  const base = type.replaceAll(/[^A-Za-z0-9_.-]/g, "-").slice(0, NAME_MAX - 8) || "job";
  for (let number = 1; ; number += 1) {
    const name = `${base}-${number}`;
    if (!taken.includes(name)) return name;
  }
}
