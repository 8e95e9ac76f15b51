// The simulated world as the API tells it: whole, and what is new since it was told last.
import type { Dashboard, DashboardChanges, Setting } from "~/api/types";
import { alertsOf } from "./alerts";
import { coordinatorOf, goodputOf, metricsOf } from "./figures";
import { TEMPLATES } from "./jobs";
import { TABLES, type Table } from "./touched";
import type { World } from "./world";

const LOGS_MAX = 500;
const EVENTS_MAX = 500;

export const SETTINGS: readonly Setting[] = [
  { process: "coordinator", name: "control", value: "tcp://0.0.0.0:50051", source: "default" },
  { process: "coordinator", name: "job", value: "demo", source: "option" },
  { process: "coordinator", name: "journal", value: "/var/lib/strata/journal.sqlite", source: "option" },
  { process: "coordinator", name: "lease_s", value: "3.0", source: "derived" },
  { process: "coordinator", name: "hang_s", value: "8.0", source: "option" },
  { process: "coordinator", name: "token", value: "set", source: "environment" },
  { process: "dispatcher", name: "mode", value: "pull", source: "option" },
  { process: "dispatcher", name: "store", value: "sqlite", source: "default" },
  { process: "api", name: "port", value: "3000", source: "default" },
  { process: "api", name: "logs", value: "run/logs", source: "derived" },
];

export function rowsOf(world: World, table: Table): readonly { readonly id: string }[] {
  if (table === "workers") return world.members.flatMap((member) => world.rows.get(member.id) ?? []);
  if (table === "datasets") return world.data.rows();
  if (table === "checkpoints") return world.checkpoints.rows();
  return table === "barriers" ? world.barriers.rows() : world.jobs.rows();
}

function statisticsOf(world: World) {
  const last = world.members
    .filter((member) => member.lastAtBarriers > 0)
    .map((member) => ({ worker_id: member.id, shards: member.lastAtBarriers }));
  return world.barriers.statistics(world.now, last);
}

export function snapshotOf(world: World, life: string, number: number): Dashboard {
  return {
    coordinator: coordinatorOf(world),
    workers: rowsOf(world, "workers") as Dashboard["workers"],
    datasets: world.data.rows(),
    checkpoints: world.checkpoints.rows(),
    barriers: world.barriers.rows(),
    metrics: metricsOf(world),
    tasks: world.jobs.rows(),
    logs: world.journal.lines.all().slice(-LOGS_MAX),
    life,
    number,
    at: world.now,
    goodput: goodputOf(world),
    alerts: alertsOf(world),
    barrier_statistics: statisticsOf(world),
    hangs: world.hangs,
    rebalances: world.data.rebalances,
    certificates: world.data.certificates,
    events: world.journal.events.all().slice(-EVENTS_MAX),
    functions: world.functions.row(),
    settings: SETTINGS,
    templates: TEMPLATES,
  };
}

/** Tells what the world has touched, and the lines and events from these numbers on; the world's marks are cleared. */
export function changesOf(world: World, line: number, event: number): DashboardChanges {
  const { rows, sections } = world.touched;
  const changes: Record<string, unknown> = {};
  const gone: Record<string, string[]> = {};
  for (const table of TABLES) {
    const ids = rows[table];
    if (ids.size === 0) continue;
    const found = rowsOf(world, table).filter((row) => ids.has(row.id));
    if (found.length > 0) changes[table] = found;
    const known = new Set(found.map((row) => row.id));
    const left = [...ids].filter((id) => !known.has(id));
    if (left.length > 0) gone[table] = left;
  }
  const told = {
    coordinator: () => coordinatorOf(world),
    metrics: () => metricsOf(world),
    goodput: () => goodputOf(world),
    barrier_statistics: () => statisticsOf(world),
    functions: () => world.functions.row(),
    alerts: () => alertsOf(world),
    hangs: () => world.hangs,
    rebalances: () => world.data.rebalances,
    certificates: () => world.data.certificates,
  };
  for (const section of sections) changes[section] = told[section]();
  const logs = world.journal.lines.from(line);
  const events = world.journal.events.from(event);
  if (logs.length > 0) changes.logs = logs;
  if (events.length > 0) changes.events = events;
  if (Object.keys(gone).length > 0) changes.gone = gone;
  world.touched.clear();
  return changes as DashboardChanges;
}
