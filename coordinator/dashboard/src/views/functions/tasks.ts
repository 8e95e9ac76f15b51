// What a task's row means: its state in words, and how long it waited and ran.
import type { FunctionTask } from "~/api/types";
import type { IconName } from "~/components/Icon";
import type { Tone } from "~/components/tone";

export const TASK_STATES = ["QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "EXPIRED"] as const;
export type TaskState = (typeof TASK_STATES)[number];

interface Look {
  word: string;
  icon: IconName;
  tone: Tone;
}

const LOOKS: Record<TaskState, Look> = {
  QUEUED: { word: "Queued", icon: "hourglass", tone: "neutral" },
  RUNNING: { word: "Running", icon: "play", tone: "info" },
  COMPLETED: { word: "Completed", icon: "check-circle", tone: "ok" },
  FAILED: { word: "Failed", icon: "x-circle", tone: "danger" },
  CANCELLED: { word: "Cancelled", icon: "minus", tone: "neutral" },
  EXPIRED: { word: "Expired", icon: "clock", tone: "warn" },
};

/** A state that this page does not know is shown as it was sent. */
export function taskLook(status: string): Look {
  const known = TASK_STATES.find((state) => state === status);
  return known === undefined ? { word: status, icon: "question", tone: "neutral" } : LOOKS[known];
}

/** Seconds from its acceptance until it first ran; null while one of the two is not known. */
export function waitedS({ submitted_at, started_at }: FunctionTask): number | null {
  return submitted_at === null || started_at === null ? null : Math.max(0, (started_at - submitted_at) / 1000);
}

/** Seconds that it has run, up to `now` while it runs; null where it never began or its end is not known. */
export function ranS({ status, started_at, ended_at }: FunctionTask, now: number): number | null {
  if (started_at === null) return null;
  if (ended_at !== null) return Math.max(0, (ended_at - started_at) / 1000);
  return status === "RUNNING" ? Math.max(0, (now - started_at) / 1000) : null;
}

const UUID = /^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$/i;

/** True for what may be a task's id; anything else the API would refuse. */
export function isTaskId(text: string): boolean {
  return UUID.test(text.trim());
}
