// Series for charts: what the API remembers, continued by the points that the live messages bring.
import { useMemo } from "react";
import type { History, Point } from "~/api/types";
import { useLiveStatus, useRecent } from "./context";
import { useHistory } from "./queries";

export const SERIES = [
  "samples_per_s",
  "checkpoint_megabytes_per_s",
  "requests_per_s",
  "barriers_per_s",
  "barrier_p50_ms",
  "barrier_p99_ms",
  "skew_p50_ms",
  "skew_p99_ms",
  "goodput_percent",
  "active_workers",
  "failed_workers",
  "queued_tasks",
  "tasks_per_s",
  "task_failures_per_s",
] as const;
export type SeriesName = (typeof SERIES)[number];

export interface SeriesData {
  /** Unix seconds, rising; shared by all series. */
  x: readonly number[];
  values: Readonly<Record<string, readonly (number | null)[]>>;
}

/** Joins history and later points on one axis. A moment without a value of a series is null in it, never 0. */
export function joinSeries(
  names: readonly string[],
  history: History | undefined,
  recent: Readonly<Record<string, readonly Point[]>>,
  seconds: number,
): SeriesData {
  const moments = new Map<number, Map<string, number | null>>();
  const put = (at: number, name: string, value: number | null) => {
    const row = moments.get(at) ?? new Map<string, number | null>();
    row.set(name, value);
    moments.set(at, row);
  };
  let known = Number.NEGATIVE_INFINITY;
  for (const name of names) {
    (history?.series[name] ?? []).forEach((value, index) => {
      const at = (history?.start ?? 0) + index * (history?.step_s ?? 1) * 1000;
      put(at, name, value);
      known = Math.max(known, at);
    });
  }
  for (const name of names) for (const [at, value] of recent[name] ?? []) if (at > known) put(at, name, value);
  const all = [...moments.keys()].sort((a, b) => a - b);
  const from = (all.at(-1) ?? 0) - seconds * 1000;
  const shown = all.filter((at) => at >= from);
  return {
    x: shown.map((at) => at / 1000),
    values: Object.fromEntries(names.map((name) => [name, shown.map((at) => moments.get(at)?.get(name) ?? null)])),
  };
}

/** The last `seconds` of some series, kept up by the live messages. Pass `names` from a constant. */
export function useSeries(names: readonly SeriesName[], seconds: number): SeriesData & { loading: boolean } {
  // After a gap the points of the gap are missing: the history is asked for again.
  const gaps = useLiveStatus((status) => status.epoch);
  const history = useHistory({ seconds }, { key: gaps });
  const recent = useRecent();
  const data = useMemo(() => joinSeries(names, history.data, recent, seconds), [names, history.data, recent, seconds]);
  return { ...data, loading: history.isPending };
}
