// The simulated figures of now, by the definitions that the API has for real ones. They change nothing.
import type { Coordinator, Goodput, Metrics } from "~/api/types";
import { percentile, rounded } from "./statistics";
import { LEASE_S, PAST_S, type World } from "./world";

const WINDOW_S = 60;
const VERSION = "0.1.0";

export function metricsOf(world: World): Metrics {
  const statuses = { active: 0, idle: 0, failed: 0, unknown: 0 };
  for (const row of world.rows.values()) statuses[row.status] += 1;
  const bytes = world.rates.bytes.perSecond;
  const waited = percentile(world.dataWaits, 0.99);
  return {
    checkpoint_throughput: bytes === null ? null : rounded(bytes / 1e6, 1),
    coordinator_rps: rounded(world.rates.requests.perSecond, 1),
    active_workers: statuses.active,
    total_workers: world.members.length,
    barrier_latency_p99: world.barriers.statistics(world.now, []).wait_p99_ms,
    shard_assignment_time: 1.8,
    samples_per_s: rounded(world.rates.samples.perSecond, 1),
    barriers_per_s: rounded(world.rates.releases.perSecond),
    idle_workers: statuses.idle,
    failed_workers: statuses.failed,
    unknown_workers: statuses.unknown,
    request_latency_p99_ms: 1,
    data_wait_p99_ms: waited === null ? null : rounded(1000 * waited, 1),
    tasks_per_s: rounded(world.functions.completedPerSecond),
  };
}

export function goodputOf(world: World): Goodput {
  const sums = { training: 0, data: 0, barrier: 0, checkpoint: 0, lost: 0 };
  let measured = 0;
  for (const member of world.members) {
    if (member.lostReason !== "") {
      sums.lost += 1;
      continue;
    }
    measured += 1;
    for (const phase of ["training", "data", "barrier", "checkpoint"] as const) sums[phase] += member.share(phase) ?? 0;
  }
  const share = (sum: number) => rounded(sum / world.members.length, 4);
  return {
    window_s: WINDOW_S,
    percent: rounded((100 * sums.training) / world.members.length, 1),
    training_share: share(sums.training),
    data_share: share(sums.data),
    barrier_share: share(sums.barrier),
    checkpoint_share: share(sums.checkpoint),
    lost_share: share(sums.lost),
    measured_workers: measured,
    workers: world.members.length,
  };
}

export function coordinatorOf(world: World): Coordinator {
  const { gone, startedAt } = world;
  const heardAt = startedAt + (gone ? PAST_S - 1 : world.second) * 1000;
  return {
    connected: !gone,
    address: "simulated",
    uptime: (heardAt - startedAt) / 1000,
    version: VERSION,
    since: heardAt,
    source: gone ? "stale" : "live",
    simulated: true,
    job: "demo",
    term: 1,
    generation: world.generation,
    formed: true,
    epoch: world.data.epoch,
    commit_index: world.barriers.released,
    world_size: world.ranked.length,
    need: world.members.length,
    have: world.ranked.length,
    pending: "",
    frozen: "",
    lease_s: LEASE_S,
    heartbeat_s: world.beatS,
    started_at: startedAt,
    api_version: VERSION,
    dispatcher: "tcp://127.0.0.1:5555",
  };
}
