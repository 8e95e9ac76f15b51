// Who was late at the barriers that ended in a stretch of time, and which of them are marked on it. It draws nothing.
import type { Release } from "~/api/types";
import type { Mark } from "~/components/swimlane/draw";
import type { View } from "~/components/swimlane/viewport";
import { compareNames } from "~/format/collate";
import { formatDuration } from "~/format/format";

/** More lines than this would be a fence. */
const MARKS_MAX = 40;

/** Those that ended within a view, the newest first. */
export function releasesIn(releases: readonly Release[], view: View): readonly Release[] {
  return releases.filter(({ at }) => at >= view.from && at <= view.to).sort((a, b) => b.at - a.at);
}

/** Who came last; null where arrivals were not told apart. */
export function lastOf(release: Release): { worker_id: string; late_ms: number } | null {
  return release.slowest.reduce<Release["slowest"][number] | null>(
    (late, one) => (late === null || one.late_ms > late.late_ms ? one : late),
    null,
  );
}

/** All of them as marks, or where they are many the broken ones and those at which workers were furthest apart. */
export function releaseMarks(releases: readonly Release[]): Mark[] {
  const shown =
    releases.length <= MARKS_MAX
      ? releases
      : [...releases]
          .sort((a, b) => Number(b.broken) - Number(a.broken) || (b.skew_max_ms ?? 0) - (a.skew_max_ms ?? 0))
          .slice(0, MARKS_MAX / 4);
  return shown.map((release) => ({ at: release.at, label: markLabel(release), broken: release.broken }));
}

function markLabel(release: Release): string {
  const last = lastOf(release);
  if (release.broken) return `${release.id} broke`;
  return last === null ? release.id : `${release.id}: ${last.worker_id} last by ${formatDuration(last.late_ms / 1000)}`;
}

export interface Lateness {
  worker_id: string;
  times: number;
  /** The middle of how much it came after the first, in milliseconds. */
  median_ms: number;
}

/** Who came last how often, the most often first. */
export function latecomers(releases: readonly Release[]): readonly Lateness[] {
  const late = new Map<string, number[]>();
  for (const release of releases) {
    const last = lastOf(release);
    if (last === null || release.broken) continue;
    const before = late.get(last.worker_id);
    if (before === undefined) late.set(last.worker_id, [last.late_ms]);
    else before.push(last.late_ms);
  }
  return [...late]
    .map(([worker_id, times]) => ({ worker_id, times: times.length, median_ms: median(times) }))
    .sort((a, b) => b.times - a.times || b.median_ms - a.median_ms || compareNames(a.worker_id, b.worker_id));
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const low = sorted[Math.ceil(sorted.length / 2) - 1] ?? 0;
  const high = sorted[Math.floor(sorted.length / 2)] ?? low;
  return (low + high) / 2;
}
