// What a job's row means: its state in words and how long it has run.
import type { Job } from "~/api/types";
import type { IconName } from "~/components/Icon";
import type { Tone } from "~/components/tone";

export const STATUS: Record<Job["status"], { word: string; icon: IconName; tone: Tone }> = {
  pending: { word: "Starting", icon: "hourglass", tone: "violet" },
  running: { word: "Running", icon: "play", tone: "ok" },
  completed: { word: "Completed", icon: "check-circle", tone: "info" },
  failed: { word: "Failed", icon: "x-circle", tone: "danger" },
  stopped: { word: "Stopped", icon: "stop", tone: "neutral" },
};

export const FILTERS = ["all", "active", "ended", "failed"] as const;
export type Filter = (typeof FILTERS)[number];

export const isActive = ({ status }: Job): boolean => status === "pending" || status === "running";

export function passes(job: Job, filter: Filter): boolean {
  if (filter === "active") return isActive(job);
  if (filter === "ended") return !isActive(job);
  return filter === "all" || job.status === "failed";
}

/** Seconds that it ran, up to `now` while it does; null where its beginning or its end is not known. */
export function ranS(job: Job, now: number): number | null {
  if (job.started_at === null) return null;
  const end = job.ended_at ?? (isActive(job) ? now : null);
  return end === null ? null : Math.max(0, (end - job.started_at) / 1000);
}

/** Those that go on first, then the newest. */
export function inOrder(jobs: readonly Job[]): readonly Job[] {
  const at = (job: Job) => job.created_at ?? job.started_at ?? 0;
  return [...jobs].sort((a, b) => Number(isActive(b)) - Number(isActive(a)) || at(b) - at(a));
}
