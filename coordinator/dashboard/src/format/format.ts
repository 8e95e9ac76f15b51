// Numbers, times and sizes as a person reads them. What is not known is the word "unknown", never a zero.

export type Maybe<T> = T | null | undefined;

export const UNKNOWN = "unknown";

/** True for a figure that was measured: null, undefined and what is no finite number are not. */
export function isKnown(value: Maybe<number>): value is number {
  return typeof value === "number" && Number.isFinite(value);
}

/** Three significant digits, without an exponent and without trailing zeros that claim precision. */
function threeDigits(value: number): string {
  const size = Math.abs(value);
  const digits = size >= 100 ? 0 : size >= 10 ? 1 : 2;
  return value.toFixed(digits).replace(/\.0+$/, "");
}

function scaled(value: number, units: readonly string[], separator: string): string {
  let rest = value;
  let at = 0;
  // 999.5 would be shown as 1000 of the smaller unit.
  while (Math.abs(rest) >= 999.5 && at < units.length - 1) {
    rest /= 1000;
    at += 1;
  }
  const unit = units[at] ?? "";
  const text = at === 0 && Number.isInteger(rest) ? String(rest) : threeDigits(rest);
  return unit === "" ? text : `${text}${separator}${unit}`;
}

const BYTES = ["B", "kB", "MB", "GB", "TB", "PB"] as const;
const SI = ["", "k", "M", "G", "T"] as const;

/** Decimal units, as disks and networks are sold: 1 MB is 1,000,000 bytes. */
export function formatBytes(bytes: Maybe<number>): string {
  return isKnown(bytes) ? scaled(bytes, BYTES, " ") : UNKNOWN;
}

export function formatBytesRate(bytesPerSecond: Maybe<number>): string {
  return isKnown(bytesPerSecond) ? `${scaled(bytesPerSecond, BYTES, " ")}/s` : UNKNOWN;
}

/** `formatRate(12_345, "samples")` is "12.3k samples/s". */
export function formatRate(perSecond: Maybe<number>, noun = ""): string {
  if (!isKnown(perSecond)) return UNKNOWN;
  return `${scaled(perSecond, SI, "")}${noun === "" ? "" : ` ${noun}`}/s`;
}

export function formatSi(value: Maybe<number>): string {
  return isKnown(value) ? scaled(value, SI, "") : UNKNOWN;
}

const COUNT = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

export function formatCount(value: Maybe<number>): string {
  return isKnown(value) ? COUNT.format(value) : UNKNOWN;
}

/** `formatPlural(1, "worker")` is "1 worker"; the plural is regular unless it is given. */
export function formatPlural(value: Maybe<number>, noun: string, plural = `${noun}s`): string {
  return `${formatCount(value)} ${value === 1 ? noun : plural}`;
}

/** A part of one (0.973) as "97.3 %". 100 % is said only of the whole, so 0.9999 is "99.9 %". */
export function formatPercent(fraction: Maybe<number>): string {
  if (!isKnown(fraction)) return UNKNOWN;
  const percent = fraction * 100;
  if (percent < 100 && percent >= 99.95) return "99.9 %";
  return `${percent.toFixed(1).replace(/\.0$/, "")} %`;
}

/** A duration in seconds, from "12 µs" to "3 d 4 h". */
export function formatDuration(seconds: Maybe<number>): string {
  if (!isKnown(seconds)) return UNKNOWN;
  if (seconds < 0) return `-${formatDuration(-seconds)}`;
  if (seconds === 0) return "0 s";
  if (seconds < 0.9995e-3) return `${threeDigits(seconds * 1e6)} µs`;
  if (seconds < 0.9995) return `${threeDigits(seconds * 1e3)} ms`;
  if (seconds < 59.95) return `${threeDigits(seconds)} s`;
  const whole = Math.round(seconds);
  const parts: readonly (readonly [number, string])[] = [
    [Math.floor(whole / 86_400), "d"],
    [Math.floor(whole / 3600) % 24, "h"],
    [Math.floor(whole / 60) % 60, "min"],
    [whole % 60, "s"],
  ];
  const first = parts.findIndex(([amount]) => amount > 0);
  return parts
    .slice(first, first + 2)
    .filter(([amount], index) => index === 0 || amount > 0)
    .map(([amount, unit]) => `${amount} ${unit}`)
    .join(" ");
}

/** How long ago `atMs` was, as seen at `nowMs` (both milliseconds since the epoch): "4 s ago". */
export function formatAge(atMs: Maybe<number>, nowMs: number): string {
  if (!isKnown(atMs)) return UNKNOWN;
  const seconds = (nowMs - atMs) / 1000;
  // Two clocks differ by a little; nobody wants to read that something happens in the future.
  if (seconds < 1) return "just now";
  return `${formatDuration(Math.floor(seconds))} ago`;
}

function twoDigits(value: number): string {
  return String(value).padStart(2, "0");
}

/** The local time of day, "14:02:11", with milliseconds where they are asked for. */
export function formatClock(atMs: Maybe<number>, milliseconds = false): string {
  if (!isKnown(atMs)) return UNKNOWN;
  const at = new Date(atMs);
  const text = [at.getHours(), at.getMinutes(), at.getSeconds()].map(twoDigits).join(":");
  return milliseconds ? `${text}.${String(at.getMilliseconds()).padStart(3, "0")}` : text;
}

/** The local date and time of day, "2026-11-22 14:02:11". */
export function formatMoment(atMs: Maybe<number>): string {
  if (!isKnown(atMs)) return UNKNOWN;
  const at = new Date(atMs);
  const day = [at.getFullYear(), twoDigits(at.getMonth() + 1), twoDigits(at.getDate())].join("-");
  return `${day} ${formatClock(atMs)}`;
}
