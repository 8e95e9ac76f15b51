// Puts a live message's changes into a dashboard. What has not changed stays the same object, so nothing draws it anew.
import type { Barrier, Checkpoint, Dashboard, DashboardChanges, Point, Worker } from "~/api/types";
import { compareNames } from "~/format/collate";

/** Lines and events kept in the page; older ones are asked for. */
export const LOGS_MAX = 2_000;
export const EVENTS_MAX = 2_000;
export const BARRIERS_MAX = 300;
/** Points kept of each series: an hour of one a second. */
export const POINTS_MAX = 3_600;

interface Row {
  readonly id: string;
}

/** Replaces rows by id, drops those that are gone, and puts new ones where `order` says. */
export function fold<R extends Row>(
  rows: readonly R[],
  changed: readonly R[] = [],
  gone: readonly string[] = [],
  order?: (a: R, b: R) => number,
): readonly R[] {
  if (changed.length === 0 && gone.length === 0) return rows;
  const next = new Map(rows.map((row) => [row.id, row]));
  for (const id of gone) next.delete(id);
  for (const row of changed) next.set(row.id, row);
  const made = [...next.values()];
  return order === undefined ? made : made.sort(order);
}

function append<T>(rows: readonly T[], added: readonly T[] = [], most: number): readonly T[] {
  return added.length === 0 ? rows : [...rows, ...added].slice(-most);
}

function first<T>(rows: readonly T[], most: number): readonly T[] {
  return rows.length <= most ? rows : rows.slice(0, most);
}

const UNRANKED = Number.MAX_SAFE_INTEGER;

const byRank = (a: Worker, b: Worker) => (a.rank ?? UNRANKED) - (b.rank ?? UNRANKED) || compareNames(a.id, b.id);

const newestFirst = (a: Checkpoint, b: Checkpoint) => b.created_at - a.created_at;

/** Open ones first, then the last that ended. */
const openFirst = (a: Barrier, b: Barrier) =>
  Number(b.status === "waiting") - Number(a.status === "waiting") ||
  (b.ended_at ?? b.created_at) - (a.ended_at ?? a.created_at);

export function applyChanges(state: Dashboard, changes: DashboardChanges, number: number, at: number): Dashboard {
  const gone = changes.gone ?? {};
  return {
    ...state,
    number,
    at,
    coordinator: changes.coordinator ?? state.coordinator,
    workers: fold(state.workers, changes.workers, gone.workers, byRank),
    datasets: fold(state.datasets, changes.datasets, gone.datasets),
    checkpoints: fold(state.checkpoints, changes.checkpoints, gone.checkpoints, newestFirst),
    barriers: first(fold(state.barriers, changes.barriers, gone.barriers, openFirst), BARRIERS_MAX),
    metrics: changes.metrics ?? state.metrics,
    tasks: fold(state.tasks, changes.tasks, gone.tasks),
    logs: append(state.logs, changes.logs, LOGS_MAX),
    goodput: changes.goodput ?? state.goodput,
    alerts: changes.alerts ?? state.alerts,
    barrier_statistics: changes.barrier_statistics ?? state.barrier_statistics,
    hangs: changes.hangs ?? state.hangs,
    rebalances: changes.rebalances ?? state.rebalances,
    certificates: changes.certificates ?? state.certificates,
    events: append(state.events, changes.events, EVENTS_MAX),
    functions: changes.functions ?? state.functions,
    settings: changes.settings ?? state.settings,
    templates: changes.templates ?? state.templates,
  };
}

export type Recent = Readonly<Record<string, readonly Point[]>>;

/** Appends a message's points; the last POINTS_MAX of each series stay. */
export function appendPoints(recent: Recent, points: Recent): Recent {
  const names = Object.keys(points);
  if (names.length === 0) return recent;
  const next: Record<string, readonly Point[]> = { ...recent };
  for (const name of names) next[name] = append(recent[name] ?? [], points[name], POINTS_MAX);
  return next;
}
