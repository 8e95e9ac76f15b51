// The lines of a log that a page holds: pages from the API and live lines in one order, each once, with the places
// where some are missing. It asks nothing and draws nothing.
import type { LogLine, LogPage } from "~/api/types";

/** As many lines as the API itself keeps. */
export const LINES_MAX = 20_000;

export const LEVELS = ["debug", "info", "warning", "error"] as const;
export type Level = LogLine["level"];

export interface LogFilters {
  /** The least level that is shown; "" for all. */
  level: Level | "";
  /** A process, or a folder of processes: "job/worker-0" is of "job". */
  source: string;
  /** Text that the message holds, in any case of letters. */
  search: string;
}

/** The rule by which the API filters, for lines that come live. */
export function matches(line: LogLine, { level, source, search }: LogFilters): boolean {
  if (level !== "" && LEVELS.indexOf(line.level) < LEVELS.indexOf(level)) return false;
  if (source !== "" && line.source !== source && !line.source.startsWith(`${source}/`)) return false;
  return search === "" || line.message.toLowerCase().includes(search.toLowerCase());
}

export interface Gap {
  /** Lines between these two numbers were not sent live. */
  after: number;
  before: number;
}

export interface Tail {
  /** By rising number. */
  lines: readonly LogLine[];
  /** Ask for lines below this number to see earlier ones; null at the beginning of the log. */
  before: number | null;
  /** The highest number that came live or in a page; 0 before the first. */
  seen: number;
  /** True when the first page is there. */
  loaded: boolean;
  /** A stretch that came too fast to be sent, until it is asked for. */
  gap: Gap | null;
  /** Numbers of lines above which some are missing. */
  holes: ReadonlySet<number>;
  sources: readonly string[];
}

export const EMPTY_TAIL: Tail = {
  lines: [],
  before: null,
  seen: 0,
  loaded: false,
  gap: null,
  holes: new Set(),
  sources: [],
};

/** Two rising lists as one; a number that is in both is there once. */
export function mergeLines(one: readonly LogLine[], other: readonly LogLine[]): readonly LogLine[] {
  if (one.length === 0) return other;
  if (other.length === 0) return one;
  const lastOfOne = one.at(-1)?.number ?? 0;
  const firstOfOther = other[0]?.number ?? 0;
  if (lastOfOne < firstOfOther) return [...one, ...other];
  const merged = new Map<number, LogLine>();
  for (const line of one) merged.set(line.number, line);
  for (const line of other) merged.set(line.number, line);
  return [...merged.values()].sort((a, b) => a.number - b.number);
}

/** The newest lines stay. */
function cut(tail: Tail): Tail {
  if (tail.lines.length <= LINES_MAX) return tail;
  const lines = tail.lines.slice(-LINES_MAX);
  return { ...tail, lines, before: lines[0]?.number ?? tail.before };
}

/** The first page, or one of earlier lines. */
export function addPage(tail: Tail, page: LogPage): Tail {
  return cut({
    ...tail,
    lines: mergeLines(tail.lines, page.lines),
    before: page.before,
    seen: Math.max(tail.seen, page.lines.at(-1)?.number ?? 0),
    loaded: true,
    sources: page.sources,
  });
}

/** Lines of a live message, of all processes and levels; those that pass the filters are kept. */
export function addLive(tail: Tail, live: readonly LogLine[], filters: LogFilters): Tail {
  const fresh = live.filter((line) => line.number > tail.seen);
  const first = fresh[0];
  const last = fresh.at(-1);
  if (first === undefined || last === undefined) return tail;
  const skipped = tail.loaded && tail.seen > 0 && first.number > tail.seen + 1;
  const kept = fresh.filter((line) => matches(line, filters));
  const sources = new Set(tail.sources);
  for (const line of fresh) sources.add(line.source);
  return cut({
    ...tail,
    lines: kept.length === 0 ? tail.lines : [...tail.lines, ...kept],
    seen: last.number,
    gap: skipped ? { after: tail.gap?.after ?? tail.seen, before: first.number } : tail.gap,
    sources: sources.size === tail.sources.length ? tail.sources : [...sources].sort(),
  });
}

/** What was asked for to fill a gap. Where it does not reach back far enough, the place is marked. */
export function fillGap(tail: Tail, gap: Gap, page: LogPage): Tail {
  const filling = page.lines.filter((line) => line.number > gap.after);
  const whole =
    page.before === null || filling.length < page.lines.length || (page.lines[0]?.number ?? 0) === gap.after + 1;
  const holes = new Set(tail.holes);
  if (!whole && filling[0] !== undefined) holes.add(filling[0].number);
  return cut({
    ...tail,
    lines: mergeLines(tail.lines, filling),
    gap: tail.gap?.before === gap.before ? null : tail.gap,
    holes,
  });
}

/** JSON lines, one object a line. Fields stay in an object of their own: one called "message" must replace none. */
export function toJsonLines(lines: readonly LogLine[]): string {
  const texts = lines.map(({ timestamp, level, source, message, fields }) =>
    JSON.stringify({
      timestamp: new Date(timestamp).toISOString(),
      level,
      source,
      message,
      ...(Object.keys(fields).length === 0 ? {} : { fields }),
    }),
  );
  return texts.map((text) => `${text}\n`).join("");
}

export interface Piece {
  text: string;
  hit: boolean;
}

/** A message in pieces, with what was searched for marked. */
export function highlight(text: string, search: string): readonly Piece[] {
  if (search === "") return [{ text, hit: false }];
  const pieces: Piece[] = [];
  const lower = text.toLowerCase();
  const wanted = search.toLowerCase();
  // Letters that change their length with their case would shift every place behind them.
  if (lower.length !== text.length) return [{ text, hit: false }];
  let from = 0;
  for (let at = lower.indexOf(wanted); at >= 0; at = lower.indexOf(wanted, from)) {
    if (at > from) pieces.push({ text: text.slice(from, at), hit: false });
    pieces.push({ text: text.slice(at, at + wanted.length), hit: true });
    from = at + wanted.length;
  }
  if (from < text.length) pieces.push({ text: text.slice(from), hit: false });
  return pieces;
}

/** Fields as one line of text: `step=7 store=near`. */
export function fieldsText(fields: LogLine["fields"]): string {
  return Object.entries(fields)
    .map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(" ");
}
