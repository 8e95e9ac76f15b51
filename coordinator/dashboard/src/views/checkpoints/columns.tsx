// The columns of the table of checkpoints.
import type { Checkpoint } from "~/api/types";
import { Badge } from "~/components/StateBadge";
import type { Column } from "~/components/table/order";
import { Age } from "~/components/time/Age";
import { formatBytes, formatCount, formatDuration, formatPercent, formatSi } from "~/format/format";
import { Value } from "~/format/Value";
import { newShare, STATUS, verifiedLook } from "./checkpoints";

const nothing = () => "";

export const CHECKPOINT_COLUMNS: readonly Column<Checkpoint>[] = [
  {
    id: "step",
    header: "Step",
    width: "5.5rem",
    align: "end",
    sort: (row) => row.step,
    text: (row) => `${row.step} ${row.id}`,
    cell: (row) => (
      <span className="font-medium text-ink" title={row.id}>
        {formatCount(row.step)}
      </span>
    ),
  },
  {
    id: "status",
    header: "Status",
    width: "7rem",
    sort: (row) => row.status,
    cell: (row) => {
      const look = STATUS[row.status];
      const title = row.reason === "" ? look.meaning : row.reason;
      return <Badge plain icon={look.icon} tone={look.tone} word={look.word} title={title} />;
    },
  },
  {
    id: "created",
    header: "Begun",
    width: "7rem",
    align: "end",
    sort: (row) => row.created_at,
    text: nothing,
    cell: (row) => <Age at={row.created_at} />,
  },
  {
    id: "size",
    header: "Size",
    title: "All bytes that a restore would read",
    width: "5rem",
    align: "end",
    sort: (row) => row.size,
    text: nothing,
    cell: (row) => <Value of={row.size === 0 ? null : row.size} format={formatBytes} unknown="not told yet" />,
  },
  {
    id: "new",
    header: "New",
    title: "Bytes that were written for it: what the store did not have yet",
    width: "7.5rem",
    align: "end",
    sort: (row) => row.written_bytes,
    text: nothing,
    cell: (row) => {
      const share = newShare(row);
      return (
        <>
          <Value of={row.written_bytes} format={formatBytes} unknown="not told yet" />
          {share === null ? null : <span className="ml-1.5 text-xs text-ink-3">{formatPercent(share)}</span>}
        </>
      );
    },
  },
  {
    id: "rate",
    header: "MB/s",
    title: "Its size over the time from its beginning until it was durable",
    width: "5rem",
    align: "end",
    sort: (row) => row.megabytes_per_s,
    text: nothing,
    cell: (row) => (
      <Value of={row.megabytes_per_s} format={(rate) => (rate < 100 ? formatSi(rate) : formatCount(rate))} />
    ),
  },
  {
    id: "total",
    header: "Took",
    title: "From its beginning until HEAD reached it",
    width: "5rem",
    align: "end",
    sort: (row) => row.phases.total_s,
    text: nothing,
    cell: (row) => (
      <Value of={row.phases.total_s} format={formatDuration} unknown="this coordinator has not seen both of its ends" />
    ),
  },
  {
    id: "ranks",
    header: "Ranks",
    title: "Ranks whose bytes are durable, of all",
    width: "6.5rem",
    align: "end",
    sort: (row) => row.arrived - row.world_size,
    text: (row) => row.missing.join(" "),
    cell: (row) => (
      <span className={row.arrived < row.world_size ? "font-medium text-warn" : ""}>
        {formatCount(row.arrived)} of {formatCount(row.world_size)}
      </span>
    ),
  },
  {
    id: "tier",
    header: "Tier",
    title: "The store's tier that has it whole: near is beside the workers, far outlives them",
    width: "4.5rem",
    sort: (row) => row.tier,
    cell: (row) => <Value of={row.tier} format={String} unknown="the API was started without a store" />,
  },
  {
    id: "kind",
    header: "Kind",
    width: "6.5rem",
    sort: (row) => row.kind,
    cell: (row) => row.kind.toLowerCase(),
  },
  {
    id: "verified",
    header: "Verified",
    width: "minmax(8rem, 1fr)",
    sort: (row) => (row.verified === null ? null : row.verified),
    text: (row) => (row.status === "durable" ? verifiedLook(row).word : ""),
    cell: (row) => {
      if (row.status !== "durable") return null;
      const look = verifiedLook(row);
      return <Badge plain icon={look.icon} tone={look.tone} word={look.word} title={look.meaning} />;
    },
  },
];
