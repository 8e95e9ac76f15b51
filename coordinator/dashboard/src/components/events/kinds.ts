// The events of the log: what each kind is called, how it looks, and where it leads.
import type { Event } from "~/api/types";
import type { IconName } from "~/components/Icon";
import type { Tone } from "~/components/tone";

interface KindLook {
  word: string;
  icon: IconName;
  /** The view that tells more of the event's subject; the subject's own page where `row` is set. */
  view?: string;
  row?: boolean;
}

const KINDS: Record<string, KindLook> = {
  term_started: { word: "Term started", icon: "zap", view: "/settings" },
  worker_joined: { word: "Worker joined", icon: "plus", view: "/workers", row: true },
  worker_left: { word: "Worker left", icon: "minus", view: "/workers", row: true },
  worker_lost: { word: "Worker lost", icon: "x-circle", view: "/workers", row: true },
  generation: { word: "Generation formed", icon: "workers", view: "/data" },
  generation_broken: { word: "Generation broken", icon: "warning", view: "/workers" },
  dataset_added: { word: "Dataset added", icon: "data", view: "/data", row: true },
  epoch: { word: "Epoch", icon: "data", view: "/data", row: true },
  checkpoint_began: { word: "Checkpoint begun", icon: "save", view: "/checkpoints", row: true },
  checkpoint_durable: { word: "Checkpoint durable", icon: "checkpoints", view: "/checkpoints", row: true },
  checkpoint_aborted: { word: "Checkpoint aborted", icon: "x-circle", view: "/checkpoints", row: true },
  restored: { word: "Restored", icon: "upload", view: "/checkpoints", row: true },
  command: { word: "Command", icon: "chevron-right" },
  hang: { word: "Hang", icon: "hourglass", view: "/workers", row: true },
  hang_evicted: { word: "Hung worker evicted", icon: "hourglass", view: "/workers", row: true },
  deadlock: { word: "Deadlock", icon: "warning", view: "/barriers" },
  leases_frozen: { word: "Leases frozen", icon: "pause", view: "/workers" },
  coordinator_late: { word: "Coordinator late", icon: "clock" },
  barrier_broken: { word: "Barrier broken", icon: "barriers", view: "/barriers" },
  refused: { word: "Refused", icon: "minus" },
  note: { word: "Note", icon: "info" },
  function_worker_joined: { word: "Function worker joined", icon: "plus", view: "/functions" },
  function_worker_lost: { word: "Function worker lost", icon: "x-circle", view: "/functions" },
  task_failed: { word: "Task failed", icon: "functions", view: "/functions", row: true },
  quarantined: { word: "Quarantined", icon: "shield", view: "/functions" },
};

/** A kind that this page does not know is shown by its own name. */
export function kindLook(kind: string): KindLook {
  if (Object.hasOwn(KINDS, kind)) return KINDS[kind] as KindLook;
  return { word: kind.replaceAll("_", " "), icon: "circle-dot" };
}

export const LEVEL_TONES: Record<Event["level"], Tone> = {
  debug: "neutral",
  info: "neutral",
  warning: "warn",
  error: "danger",
};

/** Where an event leads: to the row of its subject where it has one, else to the view of its kind; null: nowhere. */
export function eventHref(event: Event): string | null {
  const { view, row = false } = kindLook(event.kind);
  if (view === undefined) return event.worker_id === "" ? null : `/workers/${encodeURIComponent(event.worker_id)}`;
  return row && event.subject !== "" ? `${view}/${encodeURIComponent(event.subject)}` : view;
}

/** The place of an event in the log, as other views link to it. */
export function activityHref(at: number): string {
  return `/activity?at=${Math.round(at)}`;
}

/** The events of a stretch of time, Unix milliseconds: where a drag over a chart leads. */
export function rangeHref(from: number, to: number): string {
  return `/activity?from=${Math.floor(from)}&to=${Math.ceil(to)}`;
}
