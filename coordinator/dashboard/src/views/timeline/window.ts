// Which stretch of time is asked of the API for what is shown, so that a drag does not ask at each pixel. It asks nothing.
import type { Bounds, View } from "~/components/swimlane/viewport";

/** The API remembers so much. */
export const PAST_MS = 3_600_000;
const LENGTHS_S = [60, 120, 300, 600, 900, 1800, 3600] as const;
/** Seconds times workers of one answer: more would hold the page up while it is read. */
const CELLS_MAX = 90_000;
const ROWS_MAX = 100;
const ROWS_STEP = 25;

export interface Window {
  seconds: number;
  /** Unix milliseconds; null asks for the present. */
  end: number | null;
}

/** The shortest length of the list that holds a number of milliseconds. */
function lengthFor(ms: number): number {
  return LENGTHS_S.find((seconds) => seconds * 1000 >= ms) ?? 3600;
}

/** What to ask for while the present is followed, or (with a view) while the timeline stands still there. */
export function windowFor(paused: View | null, lengthMs: number): Window {
  if (paused === null) return { seconds: lengthFor(lengthMs), end: null };
  const length = lengthFor(paused.to - paused.from);
  // Ends lie on a grid: as long as the view stays within one of its cells, the answer that is there is enough.
  const gridMs = Math.max(15_000, (length * 1000) / 4);
  const end = Math.ceil(paused.to / gridMs) * gridMs;
  return { seconds: Math.min(3600, length + gridMs / 1000), end };
}

/** How many workers are asked for at once: fewer of a longer time. */
export function rowsFor(seconds: number): number {
  const fit = Math.floor(CELLS_MAX / seconds / ROWS_STEP) * ROWS_STEP;
  return Math.max(ROWS_STEP, Math.min(ROWS_MAX, fit));
}

/** How often to ask while the end is not in the past: a pixel of a long time lasts long. */
export function everyMs(seconds: number): number {
  return seconds <= 300 ? 1_000 : seconds <= 900 ? 2_000 : 5_000;
}

export function boundsAt(now: number): Bounds {
  return { from: now - PAST_MS, to: now };
}

export interface Pages {
  /** The page that is shown, from 0: the last one where there are fewer by now. */
  page: number;
  count: number;
  offset: number;
}

export function pagesOf(page: number, rows: number, total: number): Pages {
  const count = Math.max(1, Math.ceil(total / rows));
  const shown = Math.max(0, Math.min(count - 1, page));
  return { page: shown, count, offset: shown * rows };
}
