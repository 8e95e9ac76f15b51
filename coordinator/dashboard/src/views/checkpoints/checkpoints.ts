// What a checkpoint's row means: its state in words, its phases, and how a list of them is filtered and drawn.
import type { Checkpoint } from "~/api/types";
import type { IconName } from "~/components/Icon";
import type { Tone } from "~/components/tone";

export interface Look {
  word: string;
  icon: IconName;
  tone: Tone;
  meaning: string;
}

export const STATUS: Record<Checkpoint["status"], Look> = {
  writing: { word: "Writing", icon: "hourglass", tone: "info", meaning: "Not every rank's bytes are durable yet." },
  durable: { word: "Durable", icon: "check-circle", tone: "ok", meaning: "HEAD has reached it: it can be restored." },
  aborted: { word: "Aborted", icon: "x-circle", tone: "danger", meaning: "It was given up and cannot be restored." },
};

export function verifiedLook(checkpoint: Checkpoint): Look {
  if (checkpoint.verified === true) {
    return { word: "Verified", icon: "shield", tone: "ok", meaning: "Every checksum was read again and compared." };
  }
  if (checkpoint.verified === false) {
    return { word: "Damaged", icon: "warning", tone: "danger", meaning: "A checksum did not agree when it was read." };
  }
  return { word: "Not verified", icon: "circle", tone: "neutral", meaning: "Nobody has read it again since." };
}

export const FILTERS = ["all", "durable", "writing", "aborted", "unverified", "damaged"] as const;
export type Filter = (typeof FILTERS)[number];

export function passes(checkpoint: Checkpoint, filter: Filter): boolean {
  switch (filter) {
    case "all":
      return true;
    case "unverified":
      return checkpoint.status === "durable" && checkpoint.verified === null;
    case "damaged":
      return checkpoint.verified === false;
    default:
      return checkpoint.status === filter;
  }
}

export interface PhasePart {
  id: "stage" | "drain" | "commit";
  label: string;
  meaning: string;
  seconds: number;
  token: string;
}

const PHASES: readonly Omit<PhasePart, "seconds">[] = [
  { id: "stage", label: "Stage", meaning: "until all ranks had staged; training waits", token: "series-3" },
  { id: "drain", label: "Drain", meaning: "until all bytes were durable; training goes on", token: "series-1" },
  { id: "commit", label: "Commit", meaning: "until HEAD reached it", token: "series-2" },
];

/** The phases that were measured, in their order. */
export function phaseParts({ phases }: Checkpoint): readonly PhasePart[] {
  const seconds = { stage: phases.stage_s, drain: phases.drain_s, commit: phases.commit_s };
  return PHASES.flatMap((phase) => {
    const value = seconds[phase.id];
    return value === null ? [] : [{ ...phase, seconds: value }];
  });
}

/** What was new in it against its whole size, as a part of one; null where that is not known. */
export function newShare({ written_bytes, size }: Checkpoint): number | null {
  return written_bytes === null || size === 0 ? null : written_bytes / size;
}

export const MEASURES = ["duration", "bytes", "rate"] as const;
export type Measure = (typeof MEASURES)[number];

/** The height of a column of the timeline; null where it is not known (yet). */
export function measureOf(checkpoint: Checkpoint, measure: Measure): number | null {
  if (measure === "bytes") return checkpoint.written_bytes;
  if (measure === "rate") return checkpoint.megabytes_per_s;
  return checkpoint.phases.total_s;
}

/** The newest that can be restored. The rows come newest first. */
export function lastDurable(checkpoints: readonly Checkpoint[]): Checkpoint | undefined {
  return checkpoints.find((one) => one.status === "durable");
}

/** The median, of what was measured; null of nothing. */
export function median(values: readonly (number | null)[]): number | null {
  const known = values.filter((value) => value !== null).sort((a, b) => a - b);
  const high = known[Math.floor(known.length / 2)];
  const low = known[Math.ceil(known.length / 2) - 1];
  return high === undefined || low === undefined ? null : (low + high) / 2;
}
