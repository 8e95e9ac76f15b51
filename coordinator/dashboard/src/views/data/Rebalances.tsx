// What each change of membership moved, against the least that it could have moved.
import { useMemo } from "react";
import type { Rebalance } from "~/api/types";
import { BarList } from "~/components/charts/Bars";
import { Loading } from "~/components/EmptyState";
import { WorkerLinks } from "~/components/listing/Links";
import { listHeight } from "~/components/listing/listing";
import { Panel } from "~/components/Panel";
import { Badge } from "~/components/StateBadge";
import { DataTable } from "~/components/table/DataTable";
import type { Column } from "~/components/table/order";
import { Age } from "~/components/time/Age";
import { useSlice } from "~/data/context";
import { formatCount, formatPlural } from "~/format/format";
import { excessOf } from "./balance";

function Excess({ of }: { of: Rebalance }) {
  const excess = excessOf(of);
  if (excess === 0) return <Badge plain icon="check" tone="ok" word="the least possible" />;
  return <Badge plain icon="info" tone="info" word={`${formatCount(excess)} above the bound`} />;
}

const COLUMNS: readonly Column<Rebalance>[] = [
  {
    id: "generation",
    header: "Generation",
    width: "6rem",
    align: "end",
    sort: (row) => row.generation,
    cell: (row) => formatCount(row.generation),
  },
  {
    id: "at",
    header: "When",
    width: "7.5rem",
    align: "end",
    sort: (row) => row.at,
    cell: (row) => <Age at={row.at} unknown="it happened before this coordinator began" />,
  },
  {
    id: "moved",
    header: "Moved",
    width: "5rem",
    align: "end",
    sort: (row) => row.moved,
    cell: (row) => formatCount(row.moved),
  },
  {
    id: "bound",
    header: "Lower bound",
    title: "The fewest open shards that any exactly even assignment to the new members has to move",
    width: "6.5rem",
    align: "end",
    sort: (row) => row.lower_bound,
    cell: (row) => formatCount(row.lower_bound),
  },
  {
    id: "excess",
    header: "Against it",
    width: "10rem",
    sort: excessOf,
    cell: (row) => <Excess of={row} />,
  },
  {
    id: "joined",
    header: "Joined",
    width: "minmax(10rem, 1fr)",
    sort: (row) => row.joined_count,
    text: (row) => row.joined.join(" "),
    cell: (row) => <Names ids={row.joined} total={row.joined_count} />,
  },
  {
    id: "left",
    header: "Left",
    width: "minmax(10rem, 1fr)",
    sort: (row) => row.left_count,
    text: (row) => row.left.join(" "),
    cell: (row) => <Names ids={row.left} total={row.left_count} />,
  },
];

function Names({ ids, total }: { ids: readonly string[]; total: number }) {
  if (total === 0) return <span className="text-ink-3">nobody</span>;
  return <WorkerLinks ids={ids} total={total} most={2} />;
}

export function Rebalances() {
  const told = useSlice("rebalances");
  const rows = useMemo(() => [...(told ?? [])].sort((a, b) => b.generation - a.generation), [told]);
  if (told === undefined) return <Loading label="Loading rebalances" />;
  const last = rows[0];
  if (last === undefined) {
    return (
      <Panel title="Rebalances">
        <p className="text-sm text-ink-2">
          None yet. When a worker joins or leaves, the shards that changed hands are counted here, beside the fewest
          that had to.
        </p>
      </Panel>
    );
  }
  return (
    <Panel title="Rebalances" hint={`${formatPlural(rows.length, "change")} of membership`} flush>
      <div className="flex flex-wrap items-center gap-x-8 gap-y-2 border-b border-line px-3.5 py-3">
        <div className="text-sm">
          <span className="text-ink-3">The last, generation {last.generation}, </span>
          <Age at={last.at} unknown="it happened before this coordinator began" />
          <div className="mt-0.5">
            <Excess of={last} />
          </div>
        </div>
        <div className="min-w-72 flex-1">
          <BarList
            label="Shards moved by the last rebalance, and the fewest possible"
            bars={[
              { id: "moved", label: "Moved", value: last.moved, text: formatPlural(last.moved, "shard") },
              {
                id: "bound",
                label: "Lower bound",
                value: last.lower_bound,
                text: formatPlural(last.lower_bound, "shard"),
                token: "series-6",
              },
            ]}
          />
        </div>
      </div>
      <DataTable
        label="Rebalances, newest first"
        rows={rows}
        columns={COLUMNS}
        rowKey={(row) => String(row.generation)}
        height={listHeight(rows.length, 8)}
      />
    </Panel>
  );
}
