// The workers of the function plane.
import type { FunctionWorker } from "~/api/types";
import { listHeight } from "~/components/listing/listing";
import { Progress } from "~/components/listing/Progress";
import { Panel } from "~/components/Panel";
import { Badge } from "~/components/StateBadge";
import { DataTable } from "~/components/table/DataTable";
import type { Column } from "~/components/table/order";
import { Age } from "~/components/time/Age";
import { formatCount, formatPlural } from "~/format/format";

const COLUMNS: readonly Column<FunctionWorker>[] = [
  {
    id: "worker",
    header: "Worker",
    width: "minmax(9rem, 1fr)",
    sort: (row) => row.worker_id,
    cell: (row) => (
      <span className="font-medium text-ink" title={`Session ${row.id}`}>
        {row.worker_id}
      </span>
    ),
  },
  {
    id: "state",
    header: "State",
    width: "8rem",
    sort: (row) => wordOf(row),
    cell: (row) => <State worker={row} />,
  },
  {
    id: "busy",
    header: "Running",
    title: "Tasks that run, of the slots it has",
    width: "minmax(10rem, 1fr)",
    sort: (row) => (row.slots === 0 ? 0 : row.running / row.slots),
    text: () => "",
    cell: (row) => (
      <span className="flex items-center gap-2">
        <Progress share={row.slots === 0 ? 0 : row.running / row.slots} />
        <span className="w-16 text-right">
          {formatCount(row.running)} of {formatCount(row.slots)}
        </span>
      </span>
    ),
  },
  {
    id: "held",
    header: "Held",
    title: "Tasks that it was given and has not ended, those that wait in it included",
    width: "4.5rem",
    align: "end",
    sort: (row) => row.held,
    text: () => "",
    cell: (row) => formatCount(row.held),
  },
  { id: "mode", header: "Mode", width: "7rem", sort: (row) => row.mode, cell: (row) => row.mode },
  { id: "python", header: "Python", width: "6rem", sort: (row) => row.python, cell: (row) => row.python },
  {
    id: "moved",
    header: "Last moved",
    title: "When it last began or ended a task",
    width: "7.5rem",
    align: "end",
    sort: (row) => row.moved_at,
    text: () => "",
    cell: (row) => <Age at={row.moved_at} />,
  },
];

function wordOf({ stalled, retiring, running }: FunctionWorker): string {
  if (stalled) return "Stalled";
  if (retiring) return "Retiring";
  return running > 0 ? "Working" : "Idle";
}

function State({ worker }: { worker: FunctionWorker }) {
  const word = wordOf(worker);
  switch (word) {
    case "Stalled":
      return <Badge plain icon="warning" tone="danger" word={word} title="It holds tasks and does not move." />;
    case "Retiring":
      return <Badge plain icon="minus" tone="warn" word={word} title="It ends what it holds and takes nothing new." />;
    case "Working":
      return <Badge plain icon="zap" tone="ok" word={word} />;
    default:
      return <Badge plain icon="circle" tone="neutral" word={word} />;
  }
}

export function FunctionWorkers({ workers }: { workers: readonly FunctionWorker[] }) {
  return (
    <Panel title="Workers" hint={formatPlural(workers.length, "worker")} flush>
      <DataTable
        label="Workers of functions"
        rows={workers}
        columns={COLUMNS}
        rowKey={(row) => row.id}
        height={listHeight(workers.length, 8)}
        empty={
          <p className="px-4 py-10 text-center text-ink-2">
            No worker is there: tasks wait. Start some with{" "}
            <code className="font-mono text-xs">strata functions pull-worker</code>.
          </p>
        }
      />
    </Panel>
  );
}
