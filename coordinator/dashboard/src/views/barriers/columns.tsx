// The columns of the table of barriers that ended.
import type { Barrier } from "~/api/types";
import { activityHref } from "~/components/events/kinds";
import { RowLink, WorkerLink } from "~/components/listing/Links";
import { Badge } from "~/components/StateBadge";
import type { Column } from "~/components/table/order";
import { Age } from "~/components/time/Age";
import { formatCount, formatDuration } from "~/format/format";
import { Value } from "~/format/Value";
import { lastArrival } from "./barriers";

const nothing = () => "";

type MillisKey = "wait_ms" | "skew_p50_ms" | "skew_p90_ms" | "skew_max_ms";

function millis(key: MillisKey, header: string, title: string): Column<Barrier> {
  return {
    id: key,
    header,
    title,
    width: "4.8rem",
    align: "end",
    sort: (row) => row[key],
    text: nothing,
    cell: (row) => (
      <Value of={row[key]} format={(ms) => formatDuration(ms / 1000)} unknown="arrivals were not told apart" />
    ),
  };
}

export const BARRIER_COLUMNS: readonly Column<Barrier>[] = [
  {
    id: "ended",
    header: "Ended",
    width: "6.5rem",
    align: "end",
    sort: (row) => row.ended_at,
    text: nothing,
    cell: (row) =>
      row.ended_at === null ? (
        <Age at={null} />
      ) : (
        <RowLink href={activityHref(row.ended_at)} title="What happened then">
          <Age at={row.ended_at} />
        </RowLink>
      ),
  },
  {
    id: "name",
    header: "Barrier",
    width: "minmax(7rem, 1fr)",
    sort: (row) => row.name,
    text: (row) => `${row.name} ${row.id}`,
    cell: (row) => (
      <span className="font-medium text-ink" title={row.id}>
        {row.name}
      </span>
    ),
  },
  {
    id: "step",
    header: "Step",
    width: "5rem",
    align: "end",
    sort: (row) => row.step,
    cell: (row) => formatCount(row.step),
  },
  {
    id: "generation",
    header: "Generation",
    width: "5.2rem",
    align: "end",
    sort: (row) => row.generation,
    text: nothing,
    cell: (row) => formatCount(row.generation),
  },
  {
    id: "outcome",
    header: "Outcome",
    width: "6.5rem",
    sort: (row) => row.broken,
    text: (row) => (row.broken ? "broken" : "released"),
    cell: (row) =>
      row.broken ? (
        <Badge plain icon="x-circle" tone="danger" word="Broken" title="It ended without all: nobody went on." />
      ) : (
        <Badge plain icon="check" tone="ok" word={row.commit ? "Committed" : "Released"} />
      ),
  },
  {
    id: "arrived",
    header: "Arrived",
    width: "5.5rem",
    align: "end",
    sort: (row) => row.arrived - row.total,
    text: nothing,
    cell: (row) => `${formatCount(row.arrived)} of ${formatCount(row.total)}`,
  },
  millis("wait_ms", "Wait", "From its first arrival to its end"),
  millis("skew_p50_ms", "Skew p50", "How much after the first half of the workers had come"),
  millis("skew_p90_ms", "Skew p90", "How much after the first nine of ten workers had come"),
  millis(
    "skew_max_ms",
    "Skew max",
    "How much after the first the last worker came; arrivals that the coordinator took in one step are told as one",
  ),
  {
    id: "last",
    header: "Last to come",
    title: "The worker that came last, and how much after the first",
    width: "minmax(13rem, 1.8fr)",
    sort: (row) => lastArrival(row)?.worker_id ?? null,
    text: (row) => [...row.slowest.map((one) => one.worker_id), ...row.missing].join(" "),
    cell: (row) => <LastToCome barrier={row} />,
  },
];

function LastToCome({ barrier }: { barrier: Barrier }) {
  const last = lastArrival(barrier);
  const missing = barrier.missing[0];
  if (barrier.broken && missing !== undefined) {
    return (
      <>
        <WorkerLink id={missing} /> <span className="text-xs text-ink-3">never came</span>
      </>
    );
  }
  if (last === null) return <Value of={null} format={String} unknown="arrivals were not told apart" />;
  return (
    <>
      <WorkerLink id={last.worker_id} />{" "}
      <span className="text-xs text-ink-3">+{formatDuration(last.late_ms / 1000)}</span>
    </>
  );
}
