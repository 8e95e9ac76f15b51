// What a colour means. Each tone is always shown with an icon and a word, too.
import type { IconName } from "./Icon";

export type Tone = "ok" | "info" | "warn" | "danger" | "violet" | "teal" | "neutral";

/** Text on the tone's own soft background; both hold WCAG AA in both themes. */
export const SOFT: Record<Tone, string> = {
  ok: "bg-ok-soft text-ok",
  info: "bg-info-soft text-info",
  warn: "bg-warn-soft text-warn",
  danger: "bg-danger-soft text-danger",
  violet: "bg-violet-soft text-violet",
  teal: "bg-teal-soft text-teal",
  neutral: "bg-neutral-soft text-neutral",
};

export const TEXT: Record<Tone, string> = {
  ok: "text-ok",
  info: "text-info",
  warn: "text-warn",
  danger: "text-danger",
  violet: "text-violet",
  teal: "text-teal",
  neutral: "text-neutral",
};

export const FILL: Record<Tone, string> = {
  ok: "bg-ok",
  info: "bg-info",
  warn: "bg-warn",
  danger: "bg-danger",
  violet: "bg-violet",
  teal: "bg-teal",
  neutral: "bg-neutral",
};

export const TONE_ICON: Record<Tone, IconName> = {
  ok: "check-circle",
  info: "info",
  warn: "warning",
  danger: "x-circle",
  violet: "info",
  teal: "info",
  neutral: "circle",
};
