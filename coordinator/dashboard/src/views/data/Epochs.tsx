// The ledger of one dataset: the epoch that runs, and the certificate of each that is finished.
import { useMemo } from "react";
import type { Certificate, Dataset } from "~/api/types";
import { listHeight } from "~/components/listing/listing";
import { Progress } from "~/components/listing/Progress";
import { Panel } from "~/components/Panel";
import { Badge } from "~/components/StateBadge";
import { DataTable } from "~/components/table/DataTable";
import type { Column } from "~/components/table/order";
import { useSlice } from "~/data/context";
import { formatCount, formatPercent, formatPlural } from "~/format/format";
import { type EpochRow, epochRows } from "./epochs";

const COLUMNS: readonly Column<EpochRow>[] = [
  {
    id: "epoch",
    header: "Epoch",
    width: "4rem",
    align: "end",
    sort: (row) => row.epoch,
    cell: (row) => formatCount(row.epoch),
  },
  {
    id: "samples",
    header: "Samples in committed history",
    width: "minmax(14rem, 1fr)",
    sort: (row) => row.samples,
    cell: (row) => (
      <span className="flex items-center gap-2">
        <Progress share={row.total === 0 ? 1 : row.samples / row.total} />
        <span className="w-36 truncate text-right text-xs">
          {formatCount(row.samples)} of {formatCount(row.total)}
        </span>
      </span>
    ),
  },
  {
    id: "state",
    header: "Certificate",
    width: "9rem",
    sort: (row) => row.state,
    cell: (row) => <State row={row} />,
  },
  {
    id: "checksum",
    header: "Checksum",
    title: "Of the numbers of all samples seen, as the certificate has it",
    width: "7.5rem",
    cell: (row) =>
      row.checksum === "" ? (
        <span className="text-ink-3">at its end</span>
      ) : (
        <span className="font-mono text-xs text-ink-2" title={row.checksum}>
          {row.checksum}
        </span>
      ),
  },
];

function State({ row }: { row: EpochRow }) {
  if (row.state === "running") {
    return (
      <Badge plain icon="hourglass" tone="info" word={formatPercent(row.total === 0 ? 1 : row.samples / row.total)} />
    );
  }
  if (row.state === "complete") {
    return <Badge plain icon="shield" tone="ok" word="Each sample once" title="All samples, each exactly once." />;
  }
  const missing = row.total - row.samples;
  return (
    <Badge
      plain
      icon="warning"
      tone="danger"
      word={missing > 0 ? `${formatCount(missing)} missing` : "Not complete"}
      title="Committed history does not have each sample exactly once."
    />
  );
}

const NONE: readonly Certificate[] = [];

export function Epochs({ dataset }: { dataset: Dataset }) {
  const certificates = useSlice("certificates") ?? NONE;
  const rows = useMemo(() => epochRows(dataset, certificates), [dataset, certificates]);
  const finished = rows.filter((row) => row.state !== "running").length;
  return (
    <Panel
      title={`Epochs of ${dataset.name}`}
      hint={finished === 0 ? "none is finished yet" : `${formatPlural(finished, "epoch")} finished`}
      flush
    >
      <DataTable
        label={`Epochs of ${dataset.name}`}
        rows={rows}
        columns={COLUMNS}
        rowKey={(row) => String(row.epoch)}
        height={listHeight(rows.length, 6)}
      />
    </Panel>
  );
}
