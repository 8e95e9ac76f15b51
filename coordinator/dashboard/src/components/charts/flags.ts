// Which moments stand above a chart as flags, and where: those too close to each other share one. It draws nothing.
import type { IconName } from "~/components/Icon";
import type { Tone } from "~/components/tone";

export interface TimeSeriesMark {
  /** Unix seconds. */
  at: number;
  label: string;
  tone?: Tone;
  icon?: IconName;
  /** Where its flag leads; a mark without one is a line only. */
  href?: string;
}

export interface Flag {
  /** Of the first and the last mark that it stands for, Unix seconds. */
  from: number;
  to: number;
  /** Its place: a part of the axis from 0 to 1. */
  place: number;
  marks: readonly TimeSeriesMark[];
  /** The look of the gravest. */
  tone: Tone;
  icon: IconName;
}

const GRAVITY: Record<Tone, number> = { danger: 3, warn: 2, ok: 1, info: 1, violet: 1, teal: 1, neutral: 0 };

/** More lines than this hide the curve behind them. */
const ROUTINE_MAX = 20;

/** The marks on an axis; of what is routine none, where there is so much of it that nothing else could be seen. */
export function legible(marks: readonly TimeSeriesMark[], from: number, to: number): readonly TimeSeriesMark[] {
  const inside = marks.filter(({ at }) => at >= from && at <= to);
  const grave = inside.filter((mark) => mark.tone !== "ok");
  return inside.length - grave.length > ROUTINE_MAX ? grave : inside;
}

/** Flags from left to right, at least `apart` of the axis from each other; marks outside of the axis have none. */
export function placeFlags(marks: readonly TimeSeriesMark[], from: number, to: number, apart: number): readonly Flag[] {
  if (to <= from) return [];
  const inside = legible(marks, from, to)
    .filter((mark) => mark.href !== undefined)
    .sort((a, b) => a.at - b.at);
  const groups: TimeSeriesMark[][] = [];
  let left = Number.NEGATIVE_INFINITY;
  for (const mark of inside) {
    const place = (mark.at - from) / (to - from);
    const group = groups.at(-1);
    if (group === undefined || place - left >= apart) {
      groups.push([mark]);
      left = place;
    } else group.push(mark);
  }
  return groups.map((group) => flagOf(group, from, to));
}

function flagOf(marks: readonly TimeSeriesMark[], from: number, to: number): Flag {
  const gravest = marks.reduce((most, mark) => (gravity(mark) > gravity(most) ? mark : most));
  const first = marks[0]?.at ?? from;
  return {
    from: first,
    to: marks.at(-1)?.at ?? first,
    place: (first - from) / (to - from),
    marks,
    tone: gravest.tone ?? "neutral",
    icon: gravest.icon ?? "circle-dot",
  };
}

const gravity = (mark: TimeSeriesMark) => GRAVITY[mark.tone ?? "neutral"];
