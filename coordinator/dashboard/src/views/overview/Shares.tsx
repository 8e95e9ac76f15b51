// The workers by state, and where all their time of the last minute went.
import { useMemo } from "react";
import { Link } from "wouter";
import type { Goodput } from "~/api/types";
import { type Share, ShareBar } from "~/components/charts/Bars";
import { WorkerStateBar } from "~/components/HealthStrip";
import { Panel } from "~/components/Panel";
import { useSlice } from "~/data/context";
import { formatCount, formatPercent } from "~/format/format";
import { countBy } from "./health";

export function States() {
  const workers = useSlice("workers");
  const counts = useMemo(() => countBy(workers ?? [], (worker) => worker.state), [workers]);
  return (
    <Panel
      title="Workers by state"
      hint={workers === undefined ? undefined : `${formatCount(workers.length)} known`}
      actions={
        <Link href="/workers" className="text-xs text-ink-2 underline-offset-2 hover:text-ink hover:underline">
          All workers
        </Link>
      }
    >
      <WorkerStateBar counts={counts} />
    </Panel>
  );
}

const PARTS = [
  { id: "training", label: "Training", token: "span-training", of: (row: Goodput) => row.training_share },
  { id: "data", label: "Data wait", token: "span-data-wait", of: (row: Goodput) => row.data_share },
  { id: "barrier", label: "Barrier", token: "span-barrier", of: (row: Goodput) => row.barrier_share },
  { id: "checkpoint", label: "Checkpoint", token: "span-checkpoint", of: (row: Goodput) => row.checkpoint_share },
  { id: "lost", label: "Lost", token: "span-lost", of: (row: Goodput) => row.lost_share },
] as const;

/** The parts that were measured, and the rest of the whole. */
export function goodputShares(goodput: Goodput): readonly Share[] {
  const parts = PARTS.flatMap(({ id, label, token, of }) => {
    const share = of(goodput);
    return share === null ? [] : [{ id, label, token, share, text: formatPercent(share) }];
  });
  if (parts.length === 0) return [];
  const rest = Math.max(0, 1 - parts.reduce((sum, { share }) => sum + share, 0));
  return [
    ...parts,
    { id: "rest", label: "Idle or not told", token: "span-idle", share: rest, text: formatPercent(rest) },
  ];
}

export function TimeSpent() {
  const goodput = useSlice("goodput");
  const shares = useMemo(() => (goodput === undefined ? [] : goodputShares(goodput)), [goodput]);
  return (
    <Panel
      title="Where the time goes"
      hint={`all workers' time of the last ${formatCount(goodput?.window_s ?? 60)} s`}
      actions={
        <Link href="/timeline" className="text-xs text-ink-2 underline-offset-2 hover:text-ink hover:underline">
          Timeline
        </Link>
      }
    >
      {shares.length === 0 ? (
        <p className="text-sm text-ink-2">Not measured: no worker reports where its time goes.</p>
      ) : (
        <ShareBar label="Shares of time" shares={shares} />
      )}
    </Panel>
  );
}
