// How events that repeat themselves are told in one line. It draws nothing.
import type { Event } from "~/api/types";
import { activityHref, LEVEL_TONES, rangeHref } from "~/components/events/kinds";
import type { Tone } from "~/components/tone";

export interface Happening {
  id: string;
  kind: string;
  tone: Tone;
  /** Of the newest of its events. */
  at: number;
  text: string;
  /** How many events it stands for. */
  count: number;
  href: string;
}

/** This many in a row of one kind are told as one. */
const RUN = 3;

/** The newest happenings first: events, of which three and more in a row of the same kind are one line. */
export function happenings(events: readonly Event[], most: number): readonly Happening[] {
  const runs: Event[][] = [];
  for (let at = events.length - 1; at >= 0 && runs.length <= most * RUN; at -= 1) {
    const event = events[at];
    if (event === undefined || event.level === "debug") continue;
    const run = runs.at(-1);
    if (run?.[0]?.kind === event.kind && run[0].level === event.level) run.push(event);
    else runs.push([event]);
  }
  return runs.flatMap((run) => (run.length >= RUN ? [foldRun(run)] : run.map(single))).slice(0, most);
}

function single(event: Event): Happening {
  return {
    id: `${event.origin}-${event.number}`,
    kind: event.kind,
    tone: LEVEL_TONES[event.level],
    at: event.at,
    text: event.text,
    count: 1,
    href: activityHref(event.at),
  };
}

/** `run` is newest first. Its line is known by its oldest event, so that it stays itself while it grows. */
function foldRun(run: readonly Event[]): Happening {
  const [newest] = run as [Event, ...Event[]];
  const oldest = run.at(-1) ?? newest;
  return {
    ...single(newest),
    id: `${oldest.origin}-${oldest.number}`,
    count: run.length,
    href: rangeHref(oldest.at, newest.at),
  };
}
