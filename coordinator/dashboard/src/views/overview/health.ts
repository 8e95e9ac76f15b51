// What the first line of the overview says: a verdict for each of the few things that tell whether a job is healthy.
// Whether a figure is bad is decided by the API's alerts alone, so that the page and the metrics never disagree.
import type { Alert, Checkpoint, Coordinator, Goodput, Worker } from "~/api/types";
import type { Tone } from "~/components/tone";
import { formatBytes, formatCount, formatPercent, formatPlural } from "~/format/format";

export interface Verdict {
  tone: Tone;
  text: string;
  detail: string;
}

type Kind = Alert["kind"];

/** The tone of the gravest alert of some kinds; null where there is none. */
function alarmed(alerts: readonly Alert[], ...kinds: readonly Kind[]): Tone | null {
  const found = alerts.filter((alert) => kinds.includes(alert.kind));
  if (found.length === 0) return null;
  return found.some((alert) => alert.level === "error") ? "danger" : "warn";
}

export function countBy<R>(rows: readonly R[], key: (row: R) => string): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const row of rows) counts[key(row)] = (counts[key(row)] ?? 0) + 1;
  return counts;
}

export function workersVerdict(
  workers: readonly Worker[],
  coordinator: Coordinator,
  alerts: readonly Alert[],
): Verdict {
  const { active = 0, failed = 0 } = countBy(workers, (worker) => worker.status);
  const { need, have, generation } = coordinator;
  const waits = coordinator.pending !== "" || coordinator.formed === false;
  const detail = waits
    ? `waits for workers: ${formatCount(have)} of ${formatCount(need)} are there`
    : generation === null
      ? "no generation has been formed"
      : `generation ${formatCount(generation)}, ${formatCount(coordinator.world_size)} ranks`;
  const bad = alarmed(alerts, "hang", "worker_lost", "leases_frozen", "quorum_pending");
  return {
    tone: bad ?? (failed > 0 || waits ? "warn" : workers.length === 0 ? "neutral" : "ok"),
    text: workers.length === 0 ? "None yet" : `${formatCount(active)} of ${formatCount(workers.length)} active`,
    detail: failed > 0 ? `${formatCount(failed)} failed; ${detail}` : detail,
  };
}

export function goodputVerdict(goodput: Goodput, alerts: readonly Alert[]): Verdict | null {
  const { percent, measured_workers: measured, workers, window_s: window } = goodput;
  if (percent === null || percent === undefined) return null;
  return {
    tone: alarmed(alerts, "goodput_low") ?? "ok",
    text: formatPercent(percent / 100),
    detail:
      measured < workers
        ? `${formatCount(measured)} of ${formatPlural(workers, "worker")} report it`
        : `of the last ${formatCount(window)} s was training`,
  };
}

/** The newest that can be restored; rows come newest first. */
export function lastDurable(checkpoints: readonly Checkpoint[]): Checkpoint | undefined {
  return checkpoints.find((one) => one.status === "durable");
}

export function checkpointVerdict(checkpoints: readonly Checkpoint[], alerts: readonly Alert[]): Verdict {
  const last = lastDurable(checkpoints);
  const writing = checkpoints.find((one) => one.status === "writing");
  const bad = alarmed(alerts, "checkpoint_old", "checkpoint_aborted");
  const now =
    writing === undefined
      ? ""
      : `; ${formatCount(writing.arrived)} of ${formatCount(writing.world_size)} ranks have written the next`;
  if (last === undefined) {
    return {
      tone: bad ?? "neutral",
      text: "",
      detail: writing === undefined ? "nothing could be restored" : now.slice(2),
    };
  }
  return { tone: bad ?? "ok", text: "", detail: `step ${formatCount(last.step)}, ${formatBytes(last.size)}${now}` };
}

export function alertsVerdict(alerts: readonly Alert[]): Verdict {
  const errors = alerts.filter((alert) => alert.level === "error").length;
  const warnings = alerts.length - errors;
  const parts = [
    errors === 0 ? "" : formatPlural(errors, "error"),
    warnings === 0 ? "" : formatPlural(warnings, "warning"),
  ].filter((part) => part !== "");
  return {
    tone: errors > 0 ? "danger" : warnings > 0 ? "warn" : "ok",
    text: parts.length === 0 ? "None" : parts.join(", "),
    detail: alerts[0]?.text ?? "nothing needs a person",
  };
}

/** Where to look at what an alert is about. */
export function alertHref({ kind, subject }: Alert): string {
  const row = (view: string) => (subject === "" ? view : `${view}/${encodeURIComponent(subject)}`);
  switch (kind) {
    case "hang":
    case "worker_lost":
      return row("/workers");
    case "checkpoint_aborted":
      return row("/checkpoints");
    case "checkpoint_old":
      return "/checkpoints";
    case "barrier_slow":
      return "/barriers";
    case "goodput_low":
      return "/timeline";
    case "leases_frozen":
    case "quorum_pending":
      return "/workers";
    case "dispatcher_gone":
    case "function_failures":
      return "/functions";
    case "coordinator_gone":
      return "/logs?source=coordinator";
  }
}
