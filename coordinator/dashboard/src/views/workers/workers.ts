// What a worker's row means: how it is filtered, what its time went to, and how its GPUs stand together.
import type { Worker } from "~/api/types";
import type { Share } from "~/components/charts/Bars";
import type { Toggle } from "~/components/filters/ToggleGroup";
import { stateLook, WORKER_STATES } from "~/components/StateBadge";
import { formatPercent } from "~/format/format";

/** Beside the states, a filter for those that do not move while others wait for them. */
export const HANGING = "HANGING";

/** The states that an address names: "FAILED,IDLE". */
export function readStates(text: string): ReadonlySet<string> {
  return new Set(text.split(",").filter((state) => state !== ""));
}

export function writeStates(states: ReadonlySet<string>): string {
  return [...states].sort().join(",");
}

/** None chosen shows all. */
export function passes(worker: Worker, states: ReadonlySet<string>): boolean {
  return states.size === 0 || states.has(worker.state) || (worker.hanging && states.has(HANGING));
}

/** A button for each state that somebody is in or that is chosen, in the states' own order. */
export function stateOptions(workers: readonly Worker[], chosen: ReadonlySet<string>): readonly Toggle[] {
  const counts = new Map<string, number>();
  let hanging = 0;
  for (const worker of workers) {
    counts.set(worker.state, (counts.get(worker.state) ?? 0) + 1);
    if (worker.hanging) hanging += 1;
  }
  const options: Toggle[] = WORKER_STATES.filter((state) => counts.has(state) || chosen.has(state)).map((state) => {
    const { word, icon } = stateLook(state);
    return { value: state, label: word, icon, count: counts.get(state) ?? 0 };
  });
  if (hanging > 0 || chosen.has(HANGING)) {
    options.push({ value: HANGING, label: "Hanging", icon: "hourglass", count: hanging });
  }
  return options;
}

const PARTS = [
  { id: "training", label: "Training", token: "span-training", of: (worker: Worker) => worker.training_share },
  { id: "data", label: "Data wait", token: "span-data-wait", of: (worker: Worker) => worker.data_share },
  { id: "barrier", label: "Barrier", token: "span-barrier", of: (worker: Worker) => worker.barrier_share },
  { id: "checkpoint", label: "Checkpoint", token: "span-checkpoint", of: (worker: Worker) => worker.checkpoint_share },
] as const;

/** What its last minute went to, as far as it told; empty where it tells nothing. */
export function timeShares(worker: Worker): readonly Share[] {
  return PARTS.flatMap(({ id, label, token, of }) => {
    const share = of(worker);
    return share === null ? [] : [{ id, label, token, share, text: formatPercent(share) }];
  });
}

/** The same, with what is left of the whole. */
export function wholeShares(worker: Worker): readonly Share[] {
  const told = timeShares(worker);
  if (told.length === 0) return told;
  const rest = Math.max(0, 1 - told.reduce((sum, { share }) => sum + share, 0));
  return [...told, { id: "idle", label: "Idle", token: "span-idle", share: rest, text: formatPercent(rest) }];
}

/** The mean over its GPUs, in percent; null without a GPU or a measurement. */
export function gpuPercent(worker: Worker): number | null {
  const figures = worker.usage?.gpu_percent ?? [];
  return figures.length === 0 ? null : figures.reduce((sum, one) => sum + one, 0) / figures.length;
}

export interface Gpu {
  id: number;
  percent: number | null;
  memory_bytes: number | null;
  celsius: number | null;
}

/** Its GPUs one by one; a figure that one of them did not tell is null. */
export function gpus(worker: Worker): readonly Gpu[] {
  const { gpu_percent = [], gpu_memory_bytes = [], gpu_celsius = [] } = worker.usage ?? {};
  const told = Math.max(gpu_percent.length, gpu_memory_bytes.length, gpu_celsius.length);
  return Array.from({ length: Math.max(told, worker.gpu_count) }, (_, id) => ({
    id,
    percent: gpu_percent[id] ?? null,
    memory_bytes: gpu_memory_bytes[id] ?? null,
    celsius: gpu_celsius[id] ?? null,
  }));
}

export const NO_GPU = "it has no GPU";

/** Why a worker's GPU figure is missing, as a sentence part. */
export function gpuUnknown(worker: Worker): string {
  return worker.gpu_count === 0 ? NO_GPU : "its GPUs' figures are not measured";
}
