// The barriers that ended in the time that is shown: how long they took, who was last, and by how much.
import { useMemo } from "react";
import type { Release } from "~/api/types";
import { WorkerLink } from "~/components/listing/Links";
import { Panel } from "~/components/Panel";
import { Badge } from "~/components/StateBadge";
import { DataTable } from "~/components/table/DataTable";
import type { Column } from "~/components/table/order";
import { formatClock, formatCount, formatDuration, formatPlural } from "~/format/format";
import { Value } from "~/format/Value";
import { lastOf, latecomers } from "./releases";

const NAMED = 3;

interface ReleasesProps {
  /** The newest first. */
  releases: readonly Release[];
  /** Shows the time around a moment, Unix milliseconds. */
  onShow: (at: number) => void;
}

export function Releases({ releases, onShow }: ReleasesProps) {
  const late = useMemo(() => latecomers(releases).slice(0, NAMED), [releases]);
  return (
    <Panel
      title="Who was late"
      hint={`${formatPlural(releases.length, "barrier")} ended in this time; a row shows its moment above`}
      actions={
        late.length === 0 ? undefined : (
          <span className="text-xs text-ink-3">
            Most often last:{" "}
            {late.map(({ worker_id, times, median_ms }, index) => (
              <span key={worker_id}>
                {index === 0 ? "" : ", "}
                <WorkerLink id={worker_id} /> {formatCount(times)}× by {formatDuration(median_ms / 1000)}
              </span>
            ))}
          </span>
        )
      }
      flush
      className="min-h-56 flex-1"
    >
      <DataTable
        label="Barriers that ended in the time shown"
        rows={releases}
        columns={COLUMNS}
        rowKey={(row) => `${row.id} ${row.at}`}
        onOpen={(row) => onShow(row.at)}
        empty={<p className="px-4 py-8 text-center text-ink-2">No barrier ended in this time.</p>}
      />
    </Panel>
  );
}

const COLUMNS: readonly Column<Release>[] = [
  {
    id: "at",
    header: "Ended",
    width: "6.5rem",
    sort: (row) => row.at,
    text: (row) => formatClock(row.at),
    cell: (row) => formatClock(row.at, true),
  },
  {
    id: "id",
    header: "Barrier",
    width: "minmax(8rem, 1fr)",
    sort: (row) => row.id,
    cell: (row) => <span title={row.id}>{row.id}</span>,
  },
  {
    id: "outcome",
    header: "Outcome",
    width: "6.5rem",
    sort: (row) => row.broken,
    cell: (row) =>
      row.broken ? (
        <Badge plain icon="x-circle" tone="danger" word="Broken" />
      ) : (
        <Badge plain icon="check" tone="ok" word="Whole" />
      ),
  },
  {
    id: "wait",
    header: "Waited",
    title: "From the first arrival to its end",
    width: "6rem",
    align: "end",
    sort: (row) => row.wait_ms,
    cell: (row) => formatDuration(row.wait_ms / 1000),
  },
  {
    id: "skew",
    header: "Apart",
    title: "How much the last came after the first",
    width: "6rem",
    align: "end",
    sort: (row) => row.skew_max_ms,
    cell: (row) => (
      <Value of={row.skew_max_ms} format={(ms) => formatDuration(ms / 1000)} unknown="arrivals were not told apart" />
    ),
  },
  {
    id: "last",
    header: "Came last",
    width: "minmax(14rem, 2fr)",
    sort: (row) => lastOf(row)?.worker_id ?? null,
    cell: (row) => <Slowest release={row} />,
  },
];

function Slowest({ release }: { release: Release }) {
  const late = [...release.slowest]
    .sort((a, b) => b.late_ms - a.late_ms)
    .filter(({ late_ms }, index) => index === 0 || late_ms > 0)
    .slice(0, NAMED);
  if (late.length === 0) return <Value of={null} format={String} unknown="arrivals were not told apart" />;
  return (
    <>
      {late.map(({ worker_id, late_ms }, index) => (
        <span key={worker_id} className={index === 0 ? "" : "text-ink-3"}>
          {index === 0 ? "" : ", "}
          <WorkerLink id={worker_id} /> {formatDuration(late_ms / 1000)} after
        </span>
      ))}
    </>
  );
}
