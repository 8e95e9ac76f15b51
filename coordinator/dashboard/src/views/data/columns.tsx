// The columns of the table of datasets.
import type { Dataset } from "~/api/types";
import { Progress } from "~/components/listing/Progress";
import type { Column } from "~/components/table/order";
import { Age } from "~/components/time/Age";
import { formatCount, formatPercent } from "~/format/format";
import { progressOf } from "./balance";

export const DATASET_COLUMNS: readonly Column<Dataset>[] = [
  {
    id: "name",
    header: "Dataset",
    width: "minmax(9rem, 1.4fr)",
    sort: (row) => row.name,
    text: (row) => `${row.name} ${row.id} ${row.path} ${row.format}`,
    cell: (row) => (
      <span className="font-medium text-ink" title={row.id}>
        {row.name}
      </span>
    ),
  },
  {
    id: "epoch",
    header: "Epoch",
    width: "4.5rem",
    align: "end",
    sort: (row) => row.epoch,
    text: () => "",
    cell: (row) => formatCount(row.epoch),
  },
  {
    id: "progress",
    header: "Committed of the epoch",
    width: "minmax(15rem, 2fr)",
    sort: progressOf,
    text: () => "",
    cell: (row) => (
      <span className="flex items-center gap-2">
        <Progress share={progressOf(row)} />
        <span className="w-12 text-right">{formatPercent(progressOf(row))}</span>
        <span className="w-36 truncate text-xs text-ink-3">
          {formatCount(row.committed_samples)} of {formatCount(row.total_samples)}
        </span>
      </span>
    ),
  },
  {
    id: "open",
    header: "Open shards",
    title: "Shards of this epoch that committed history has not seen whole",
    width: "7rem",
    align: "end",
    sort: (row) => row.open_shards,
    text: () => "",
    cell: (row) => `${formatCount(row.open_shards)} of ${formatCount(row.shard_count)}`,
  },
  {
    id: "shard_size",
    header: "Shard size",
    title: "Samples in a shard; the last one may be smaller",
    width: "5.5rem",
    align: "end",
    sort: (row) => row.shard_size,
    text: () => "",
    cell: (row) => formatCount(row.shard_size),
  },
  {
    id: "owners",
    header: "Owners",
    title: "Workers that own a shard of it",
    width: "4.5rem",
    align: "end",
    sort: (row) => row.shards.length,
    text: () => "",
    cell: (row) => formatCount(row.shards.length),
  },
  {
    id: "format",
    header: "Format",
    width: "5.5rem",
    sort: (row) => row.format,
    cell: (row) => (row.format === "" ? <span className="text-ink-3">not told</span> : row.format),
  },
  {
    id: "shuffle",
    header: "Order",
    width: "5.5rem",
    sort: (row) => row.shuffle,
    text: (row) => (row.shuffle ? "shuffled" : "as stored"),
    cell: (row) => (row.shuffle ? "shuffled" : "as stored"),
  },
  {
    id: "registered",
    header: "Registered",
    width: "7rem",
    align: "end",
    sort: (row) => row.registered_at,
    text: () => "",
    cell: (row) => <Age at={row.registered_at} />,
  },
];
