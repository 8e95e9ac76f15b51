// Who is late: who is awaited now, and who came last to the barriers that ended lately. It draws nothing.
import type { Barrier, Hang } from "~/api/types";
import { compareNames } from "~/format/collate";

/** A barrier that is open for less is no news: most of them end before anybody could read of it. */
export const AWAITED_MS = 2_000;

export interface Awaited {
  id: string;
  /** What is open and waits for it; "" where it only hangs. */
  barrier: string;
  since: number;
  hanging: boolean;
  /** How many wait for it. */
  waiters: number;
}

/** Who is awaited now, the longest first. */
export function awaited(barriers: readonly Barrier[], hangs: readonly Hang[], now: number): readonly Awaited[] {
  const found = new Map<string, Awaited>();
  for (const hang of hangs) {
    found.set(hang.worker_id, {
      id: hang.worker_id,
      barrier: hang.where,
      since: hang.since,
      hanging: true,
      waiters: hang.waiter_count,
    });
  }
  for (const barrier of barriers) {
    if (barrier.status !== "waiting" || now - barrier.created_at < AWAITED_MS) continue;
    for (const id of barrier.missing) {
      if (found.has(id)) continue;
      const name = `${barrier.name}, step ${barrier.step}`;
      found.set(id, { id, barrier: name, since: barrier.created_at, hanging: false, waiters: barrier.arrived });
    }
  }
  return [...found.values()].sort((a, b) => a.since - b.since || compareNames(a.id, b.id));
}

export interface Latecomer {
  id: string;
  /** At how many of the barriers it came last. */
  times: number;
  /** The most that it came after the first, in milliseconds. */
  most_ms: number;
}

export interface Lateness {
  /** Barriers that told their workers apart. */
  barriers: number;
  latecomers: readonly Latecomer[];
}

/** Who came last to the newest `most` barriers that ended whole. */
export function lateness(barriers: readonly Barrier[], most: number): Lateness {
  const told = barriers
    .filter((one) => one.status === "complete" && !one.broken && one.slowest.length > 0)
    .slice(0, most);
  const found = new Map<string, Latecomer>();
  for (const { slowest } of told) {
    const last = slowest.reduce((late, one) => (one.late_ms > late.late_ms ? one : late));
    const before = found.get(last.worker_id);
    found.set(last.worker_id, {
      id: last.worker_id,
      times: (before?.times ?? 0) + 1,
      most_ms: Math.max(before?.most_ms ?? 0, last.late_ms),
    });
  }
  const latecomers = [...found.values()].sort(
    (a, b) => b.times - a.times || b.most_ms - a.most_ms || compareNames(a.id, b.id),
  );
  return { barriers: told.length, latecomers };
}
