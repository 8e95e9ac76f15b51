import { describe, expect, it } from "vitest";
import css from "./tokens.css?raw";

function tokens(theme: "light" | "dark"): Map<string, string> {
  const start = css.indexOf(`[data-theme="${theme}"]`);
  const block = css.slice(start, css.indexOf("}", start));
  return new Map([...block.matchAll(/--([\w-]+): (#[0-9a-f]{6});/g)].map((found) => [found[1] ?? "", found[2] ?? ""]));
}

/** WCAG 2.2: relative luminance and contrast ratio. */
function luminance(hex: string): number {
  const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((at) => {
    const channel = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
    return channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one: string, other: string): number {
  const [dark = 0, light = 0] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

const TONES = ["ok", "info", "warn", "danger", "violet", "teal", "neutral"];
const GROUNDS = ["canvas", "surface", "sunken", "raised", "hover", "selected"];
const TEXT: [string, string][] = [
  ...["ink", "ink-2", "ink-3", "accent"].flatMap((ink) => GROUNDS.map((ground): [string, string] => [ink, ground])),
  ...TONES.flatMap((tone) => [`${tone}-soft`, ...GROUNDS].map((ground): [string, string] => [tone, ground])),
  ["accent-ink", "accent"],
  ["ink-2", "danger-soft"],
];
const GRAPHICS = [
  "line-strong",
  ...[1, 2, 3, 4, 5, 6].map((number) => `series-${number}`),
  ...["training", "data-wait", "barrier", "checkpoint", "lost", "idle"].map((kind) => `span-${kind}`),
];

describe.each(["light", "dark"] as const)("the %s theme", (theme) => {
  const colors = tokens(theme);
  const ratio = (one: string, other: string) => contrast(colors.get(one) ?? "", colors.get(other) ?? "");

  it("keeps every text readable on every ground it stands on: 4.5 to 1", () => {
    const poor = TEXT.filter(([ink, ground]) => !(ratio(ink, ground) >= 4.5));
    expect(poor.map(([ink, ground]) => `${ink} on ${ground}: ${ratio(ink, ground).toFixed(2)}`)).toEqual([]);
  });

  it("keeps what is drawn visible on its surface: 3 to 1", () => {
    const poor = GRAPHICS.filter((token) => !(ratio(token, "surface") >= 3));
    expect(poor.map((token) => `${token}: ${ratio(token, "surface").toFixed(2)}`)).toEqual([]);
  });
});

it("the two themes name the same tokens", () => {
  expect([...tokens("light").keys()]).toEqual([...tokens("dark").keys()]);
});
