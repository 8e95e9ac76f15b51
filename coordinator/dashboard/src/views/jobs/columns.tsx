// The columns of the table of jobs.
import type { Job } from "~/api/types";
import { Badge } from "~/components/StateBadge";
import type { Column } from "~/components/table/order";
import { Age } from "~/components/time/Age";
import { useNow } from "~/data/clock";
import { formatCount, formatDuration } from "~/format/format";
import { Value } from "~/format/Value";
import { ranS, STATUS } from "./jobs";

const nothing = () => "";

function Ran({ job }: { job: Job }) {
  return <Value of={ranS(job, useNow())} format={formatDuration} unknown="its beginning or its end was not told" />;
}

export const JOB_COLUMNS: readonly Column<Job>[] = [
  {
    id: "name",
    header: "Job",
    width: "minmax(9rem, 1fr)",
    sort: (row) => row.name,
    text: (row) => `${row.name} ${row.id}`,
    cell: (row) => (
      <span className="font-medium text-ink" title={row.id}>
        {row.name}
      </span>
    ),
  },
  {
    id: "status",
    header: "State",
    width: "7.5rem",
    sort: (row) => row.status,
    text: (row) => STATUS[row.status].word,
    cell: (row) => {
      const { word, icon, tone } = STATUS[row.status];
      return <Badge plain icon={icon} tone={tone} word={word} />;
    },
  },
  { id: "type", header: "Type", width: "minmax(5rem, 6.5rem)", sort: (row) => row.type, cell: (row) => row.type },
  {
    id: "dataset",
    header: "Dataset",
    width: "minmax(5rem, 6.5rem)",
    sort: (row) => row.dataset_id,
    cell: (row) => (row.dataset_id === "" ? <span className="text-ink-3">none named</span> : row.dataset_id),
  },
  {
    id: "workers",
    header: "Workers",
    width: "5rem",
    align: "end",
    sort: (row) => row.worker_count,
    text: nothing,
    cell: (row) => formatCount(row.worker_count),
  },
  {
    id: "started",
    header: "Started",
    width: "7.5rem",
    align: "end",
    sort: (row) => row.started_at,
    text: nothing,
    cell: (row) => <Age at={row.started_at} unknown="it has not begun" />,
  },
  { id: "ran", header: "Ran", width: "6.5rem", align: "end", cell: (row) => <Ran job={row} /> },
  {
    id: "exit",
    header: "Exit",
    width: "3.5rem",
    align: "end",
    sort: (row) => row.exit_code,
    text: nothing,
    cell: (row) => (
      <Value of={row.exit_code} format={String} unknown="it has none: it goes on, or was not waited for" />
    ),
  },
  {
    id: "origin",
    header: "Started by",
    width: "5.5rem",
    sort: (row) => row.origin,
    text: nothing,
    cell: (row) => <span className="text-ink-2">{row.origin === "api" ? "this API" : "elsewhere"}</span>,
  },
  {
    id: "message",
    header: "Said last",
    width: "minmax(8rem, 1.4fr)",
    text: (row) => row.message,
    cell: (row) => <span title={row.message}>{row.message}</span>,
  },
];
