// Made-up rows for the gallery of components; none of it is part of the built dashboard.
import type { LogLine } from "~/api/types";
import { WORKER_STATES } from "~/components/StateBadge";
import type { Lane, Span } from "~/components/swimlane/kinds";

export interface SampleWorker {
  id: string;
  rank: number | null;
  state: string;
  step: number;
  rate: number | null;
}

/** The same numbers at every start: a small linear congruential generator. */
function chance(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32;
    return state / 2 ** 32;
  };
}

export const WORKERS: SampleWorker[] = Array.from({ length: 1000 }, (_, rank) => ({
  id: `worker-${rank}`,
  rank: rank % 37 === 0 ? null : rank,
  state: rank < 8 ? (WORKER_STATES[rank] ?? "TRAINING") : "TRAINING",
  step: 12_400 + (rank % 5),
  rate: rank % 11 === 0 ? null : 310 + (rank % 40),
}));

export function series(seconds: number, level: number, seed: number): (number | null)[] {
  const next = chance(seed);
  return Array.from({ length: seconds }, (_, at) =>
    at > 120 && at < 135 ? null : level * (0.85 + 0.2 * next() + 0.08 * Math.sin(at / 18)),
  );
}

export function lanes(end: number, seconds: number): Lane[] {
  return WORKERS.map(({ id, rank }, index) => {
    const next = chance(index + 1);
    const spans: Span[] = [];
    let at = end - seconds * 1000;
    const put = (kind: Span["kind"], length: number) => {
      spans.push({ kind, from: at, to: Math.min(end, at + length) });
      at += length;
    };
    while (at < end) {
      put("data", 200 + 1500 * next() * (index % 9 === 4 ? 3 : 1));
      put("training", 7_000 + 2_000 * next());
      put("barrier", 200 + 900 * next());
      if (next() < 0.12) put("checkpoint", 3_000);
      if (rank === null && next() < 0.05) put("lost", 24_000);
      if (next() < 0.02) put("idle", 4_000);
    }
    return { id, label: id, spans };
  });
}

const TEXTS = ["barrier released", "checkpoint durable", "worker joined", "lease renewed late", "shards moved"];
const LEVELS = ["info", "info", "debug", "warning", "error"] as const;

export function lines(end: number): LogLine[] {
  return Array.from({ length: 5_000 }, (_, number) => ({
    number,
    timestamp: end - (5_000 - number) * 240,
    level: LEVELS[number % 5] ?? "info",
    source: number % 3 === 0 ? "coordinator" : `worker-${number % 7}`,
    message: TEXTS[number % 5] ?? "",
    fields: { step: 12_000 + number, name: number % 50 === 0 ? "<b>not bold</b>" : "w" },
  }));
}
