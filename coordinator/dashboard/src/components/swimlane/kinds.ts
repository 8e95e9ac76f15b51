// What a worker can be seen doing: the words and colours of the timeline's phases.
import type { Phase, Timeline } from "~/api/types";

export interface KindLook {
  word: string;
  token: string;
  /** Hatched, so that it is told from the others without colour. */
  hatched?: boolean;
}

export const KINDS: Readonly<Record<Phase, KindLook>> = {
  training: { word: "Training", token: "span-training" },
  data: { word: "Data wait", token: "span-data-wait" },
  barrier: { word: "Barrier", token: "span-barrier" },
  checkpoint: { word: "Checkpoint", token: "span-checkpoint" },
  lost: { word: "Lost", token: "span-lost", hatched: true },
  idle: { word: "Idle", token: "span-idle" },
  unknown: { word: "Unknown", token: "line-strong", hatched: true },
  absent: { word: "Absent", token: "sunken" },
};

export interface Span {
  kind: Phase;
  /** Unix milliseconds. */
  from: number;
  to: number;
}

export interface Lane {
  id: string;
  label: string;
  /** In order of time, without overlap. */
  spans: readonly Span[];
}

/** The lanes of an answer of /api/timeline; time in which a worker was absent is left empty. */
export function timelineLanes(timeline: Timeline): Lane[] {
  return timeline.rows.map(({ worker_id, runs }) => {
    const spans: Span[] = [];
    let at = timeline.start;
    for (const [phase, steps] of runs) {
      const to = at + steps * timeline.step_s * 1000;
      const kind = timeline.phases[phase] ?? "unknown";
      if (kind !== "absent") spans.push({ kind, from: at, to });
      at = to;
    }
    return { id: worker_id, label: worker_id, spans };
  });
}
