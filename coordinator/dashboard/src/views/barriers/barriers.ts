// What the barriers' rows mean: who is awaited and why, who was last, and which barriers a filter leaves.
import type { Barrier, BarrierStatistics, Hang, Worker } from "~/api/types";

export const FILTERS = ["all", "commit", "other", "broken"] as const;
export type Filter = (typeof FILTERS)[number];

export function passes(barrier: Barrier, filter: Filter): boolean {
  switch (filter) {
    case "commit":
      return barrier.commit;
    case "other":
      return !barrier.commit;
    case "broken":
      return barrier.broken;
    default:
      return true;
  }
}

export const isOpen = (barrier: Barrier): boolean => barrier.status === "waiting";

/** The one that came last, and how much after the first; null where arrivals were not told apart. */
export function lastArrival(barrier: Barrier): { worker_id: string; late_ms: number } | null {
  return barrier.slowest.reduce<{ worker_id: string; late_ms: number } | null>(
    (last, one) => (last === null || one.late_ms > last.late_ms ? one : last),
    null,
  );
}

export interface Awaited {
  id: string;
  worker: Worker | undefined;
  hang: Hang | undefined;
}

/** Who has not come to an open barrier, with what is known of each. */
export function awaitedAt(barrier: Barrier, workers: readonly Worker[], hangs: readonly Hang[]): readonly Awaited[] {
  const byId = new Map(workers.map((worker) => [worker.id, worker]));
  return barrier.missing.map((id) => ({
    id,
    worker: byId.get(id),
    hang: hangs.find((hang) => hang.worker_id === id),
  }));
}

/** Workers by how often they came last, as a part of all counted; the API names the first of them only. */
export function latecomers(statistics: BarrierStatistics): readonly { id: string; times: number }[] {
  return statistics.most_often_last
    .map(({ worker_id, shards }) => ({ id: worker_id, times: shards }))
    .sort((a, b) => b.times - a.times);
}
