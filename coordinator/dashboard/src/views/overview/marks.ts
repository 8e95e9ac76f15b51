// Which events are marked on the charts, and how events that repeat themselves are told in one line. It draws nothing.
import type { Event } from "~/api/types";
import type { TimeSeriesMark } from "~/components/charts/flags";
import { activityHref, kindLook, LEVEL_TONES, rangeHref } from "~/components/events/kinds";
import type { Tone } from "~/components/tone";

/** What can be seen in a rate: a fault, another set of workers, bytes on their way. */
const MARKED: Readonly<Record<string, Tone>> = {
  term_started: "info",
  worker_lost: "danger",
  generation: "info",
  hang: "danger",
  hang_evicted: "danger",
  deadlock: "danger",
  leases_frozen: "warn",
  coordinator_late: "warn",
  barrier_broken: "warn",
  checkpoint_durable: "ok",
  checkpoint_aborted: "warn",
  function_worker_lost: "warn",
  quarantined: "warn",
};

export function eventMarks(events: readonly Event[]): TimeSeriesMark[] {
  return events.flatMap((event) => {
    const tone = MARKED[event.kind];
    if (tone === undefined) return [];
    const { icon } = kindLook(event.kind);
    return [{ at: event.at / 1000, label: event.text, tone, icon, href: activityHref(event.at) }];
  });
}

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
