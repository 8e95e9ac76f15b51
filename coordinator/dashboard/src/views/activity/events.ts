// Which events of the log a reader has asked for, where one moment is in it, and how many there were when.
import type { Event } from "~/api/types";
import { kindLook } from "~/components/events/kinds";

export const LEVEL_FILTERS = ["all", "warning", "error"] as const;
export type LevelFilter = (typeof LEVEL_FILTERS)[number];

export interface EventFilters {
  kind: string;
  level: LevelFilter;
  worker: string;
  search: string;
  /** Unix milliseconds, both inclusive. */
  from: number | null;
  to: number | null;
}

export function passes(event: Event, filters: EventFilters): boolean {
  if (filters.kind !== "" && event.kind !== filters.kind) return false;
  if (filters.level === "error" && event.level !== "error") return false;
  if (filters.level === "warning" && event.level !== "warning" && event.level !== "error") return false;
  if (filters.worker !== "" && event.worker_id !== filters.worker && event.subject !== filters.worker) return false;
  if (filters.from !== null && event.at < filters.from) return false;
  if (filters.to !== null && event.at > filters.to) return false;
  const words = filters.search.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return true;
  const { word } = kindLook(event.kind);
  const text =
    `${event.text}\n${event.kind}\n${word}\n${event.subject}\n${event.worker_id}\n${event.origin}`.toLowerCase();
  return words.every((one) => text.includes(one));
}

/** What identifies an event: every origin numbers its own. */
export function eventKey(event: Event): string {
  return `${event.origin}-${event.number}-${event.at}`;
}

/** Older ones that were asked for and those that came live, each once, newest first. */
export function joinEvents(older: readonly Event[], live: readonly Event[]): readonly Event[] {
  const joined = new Map<string, Event>();
  for (const event of [...older, ...live]) joined.set(eventKey(event), event);
  return [...joined.values()].sort((a, b) => b.at - a.at || b.number - a.number);
}

/** The place of the event that is nearest to a moment; -1 of none. */
export function nearest(events: readonly Event[], at: number): number {
  let best = -1;
  let least = Number.POSITIVE_INFINITY;
  events.forEach((event, index) => {
    const away = Math.abs(event.at - at);
    if (away < least) {
      least = away;
      best = index;
    }
  });
  return best;
}

/** The kinds that occur, with how often, by the words that they are shown by. */
export function kindCounts(events: readonly Event[]): readonly { kind: string; word: string; count: number }[] {
  const counts = new Map<string, number>();
  for (const event of events) counts.set(event.kind, (counts.get(event.kind) ?? 0) + 1);
  return [...counts]
    .map(([kind, count]) => ({ kind, word: kindLook(kind).word, count }))
    .sort((a, b) => a.word.localeCompare(b.word, "en"));
}

export interface Bucket {
  /** Unix milliseconds. */
  from: number;
  to: number;
  info: number;
  warning: number;
  error: number;
}

/** Equal stretches of time from `from` to `to`, with how many events of each level lie in each. */
export function buckets(events: readonly Event[], from: number, to: number, count: number): readonly Bucket[] {
  const width = Math.max(1, (to - from) / count);
  const made = Array.from({ length: count }, (_, index): Bucket => {
    const start = from + index * width;
    return { from: start, to: start + width, info: 0, warning: 0, error: 0 };
  });
  for (const event of events) {
    if (event.at < from || event.at > to) continue;
    const bucket = made[Math.min(count - 1, Math.floor((event.at - from) / width))];
    if (bucket === undefined) continue;
    if (event.level === "error") bucket.error += 1;
    else if (event.level === "warning") bucket.warning += 1;
    else bucket.info += 1;
  }
  return made;
}
