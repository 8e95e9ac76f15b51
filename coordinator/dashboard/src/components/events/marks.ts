// Which events are marked on charts of rates, and where the flags lead.
import type { Event } from "~/api/types";
import type { TimeSeriesMark } from "~/components/charts/flags";
import type { Tone } from "~/components/tone";
import { activityHref, kindLook } from "./kinds";

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
