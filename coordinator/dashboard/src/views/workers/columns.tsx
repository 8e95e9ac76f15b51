// The columns of the workers' table.
import type { Worker } from "~/api/types";
import { Badge, StateBadge, stateLook } from "~/components/StateBadge";
import type { Column } from "~/components/table/order";
import { Age } from "~/components/time/Age";
import { formatBytes, formatCount, formatPercent, formatSi } from "~/format/format";
import { Value } from "~/format/Value";
import { gpuPercent, gpuUnknown, timeShares } from "./workers";

const LOST = "it is lost and tells nothing";

const silent = (worker: Worker, otherwise: string) => (worker.lost_reason === "" ? otherwise : LOST);

export const WORKER_COLUMNS: readonly Column<Worker>[] = [
  {
    id: "id",
    header: "Worker",
    width: "minmax(7rem, 1.2fr)",
    sort: (row) => row.id,
    cell: (row) => (
      <span className="font-medium" title={row.id}>
        {row.id}
      </span>
    ),
  },
  {
    id: "state",
    header: "State",
    width: "8rem",
    sort: (row) => row.state,
    text: (row) => `${row.state} ${row.hanging ? "hanging" : ""}`,
    value: (row) => row.state,
    cell: (row) =>
      row.hanging ? (
        <Badge
          plain
          icon="hourglass"
          tone="danger"
          word={`Hangs: ${stateLook(row.state).word.toLowerCase()}`}
          title="It does not move, and others wait for it."
        />
      ) : (
        <StateBadge state={row.state} plain />
      ),
  },
  {
    id: "rank",
    header: "Rank",
    width: "3.25rem",
    align: "end",
    sort: (row) => row.rank,
    cell: (row) => <Value of={row.rank} format={formatCount} unknown="it is not in this generation" />,
  },
  {
    id: "host",
    header: "Host",
    width: "minmax(5.5rem, 1fr)",
    sort: (row) => row.ip,
    cell: (row) => <span title={row.ip}>{row.ip}</span>,
  },
  {
    id: "step",
    header: "Step",
    title: "The step that it reported last",
    width: "4.25rem",
    align: "end",
    sort: (row) => row.current_step,
    cell: (row) => formatCount(row.current_step),
  },
  {
    id: "rate",
    header: "Samples/s",
    title: "Samples that it was handed, over its last reports",
    width: "5.5rem",
    align: "end",
    sort: (row) => row.samples_per_s,
    cell: (row) => (
      <Value of={row.samples_per_s} format={formatSi} unknown={silent(row, "it does not report samples")} />
    ),
  },
  {
    id: "training",
    header: "Training",
    title: "The share of its last minute that was training; the bar shows data wait, barrier and checkpoint, too",
    width: "7.75rem",
    sort: (row) => row.training_share,
    cell: (row) => <TimeCell worker={row} />,
  },
  {
    id: "shards",
    header: "Shards",
    width: "3.75rem",
    align: "end",
    sort: (row) => row.assigned_shards,
    cell: (row) => formatCount(row.assigned_shards),
  },
  {
    id: "cpu",
    header: "CPU",
    title: "Of its process; 100 % is one core",
    width: "3.75rem",
    align: "end",
    sort: (row) => row.usage?.cpu_percent ?? null,
    cell: (row) => (
      <Value
        of={row.usage?.cpu_percent}
        format={(percent) => `${formatCount(percent)} %`}
        unknown={silent(row, "it has not reported what it uses")}
      />
    ),
  },
  {
    id: "memory",
    header: "Memory",
    title: "Of its process",
    width: "4.5rem",
    align: "end",
    sort: (row) => row.usage?.memory_bytes ?? null,
    cell: (row) => (
      <Value
        of={row.usage?.memory_bytes}
        format={formatBytes}
        unknown={silent(row, "it has not reported what it uses")}
      />
    ),
  },
  {
    id: "gpu",
    header: "GPU",
    title: "The mean over its GPUs",
    width: "3.75rem",
    align: "end",
    sort: gpuPercent,
    cell: (row) => (
      <Value
        of={gpuPercent(row)}
        format={(percent) => `${formatCount(percent)} %`}
        unknown={silent(row, gpuUnknown(row))}
      />
    ),
  },
  {
    id: "last",
    header: "Last",
    title: "At how many barriers it came last, since the coordinator began",
    width: "3rem",
    align: "end",
    sort: (row) => row.last_at_barriers,
    cell: (row) => formatCount(row.last_at_barriers),
  },
  {
    id: "heard",
    header: "Heard",
    title: "When its last heartbeat came",
    width: "4.75rem",
    align: "end",
    sort: (row) => row.last_heartbeat,
    cell: (row) => <Age at={row.last_heartbeat} />,
  },
];

function TimeCell({ worker }: { worker: Worker }) {
  const shares = timeShares(worker);
  return (
    <span className="flex items-center gap-2">
      <span
        aria-hidden="true"
        className={`flex h-2 min-w-0 flex-1 overflow-hidden rounded-full ${shares.length === 0 ? "" : "bg-sunken"}`}
        title={shares.map(({ label, text }) => `${label} ${text}`).join(", ")}
      >
        {shares.map(({ id, token, share }) => (
          <span
            key={id}
            style={{ background: `var(--${token})`, width: `${Math.max(0, Math.min(1, share)) * 100}%` }}
          />
        ))}
      </span>
      <span className="w-12 text-right">
        <Value
          of={worker.training_share}
          format={formatPercent}
          unknown={silent(worker, "it does not report where its time goes")}
        />
      </span>
    </span>
  );
}
