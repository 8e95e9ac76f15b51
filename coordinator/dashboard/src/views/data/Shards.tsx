// Who holds the shards of one dataset, against what an even spread would give.
import { useMemo } from "react";
import type { Dataset, ShardShare } from "~/api/types";
import { EmptyState } from "~/components/EmptyState";
import { WorkerLink } from "~/components/listing/Links";
import { listHeight } from "~/components/listing/listing";
import { Panel } from "~/components/Panel";
import { Badge } from "~/components/StateBadge";
import { DataTable } from "~/components/table/DataTable";
import type { Column } from "~/components/table/order";
import { useDashboard } from "~/data/context";
import { formatCount, formatPlural } from "~/format/format";
import { type Balance, balanceOf, boundsText, spread } from "./balance";

const SPREAD_ROWS = 5;

export function Shards({ dataset }: { dataset: Dataset }) {
  const worldSize = useDashboard((state) => state?.coordinator.world_size ?? null);
  const balance = useMemo(() => balanceOf(dataset, worldSize), [dataset, worldSize]);
  const columns = useMemo(() => (balance === null ? [] : columnsFor(balance)), [balance]);
  if (balance === null) {
    return (
      <Panel title={`Shards of ${dataset.name}`}>
        <EmptyState icon="workers" title="No worker owns a shard now">
          Shards are dealt when a generation is formed: the job waits for its workers, or it has ended.
        </EmptyState>
      </Panel>
    );
  }
  return (
    <Panel
      title={`Shards of ${dataset.name}`}
      hint={`${formatPlural(balance.owned, "shard")} on ${formatPlural(balance.workers, "worker")}`}
      actions={<Verdict balance={balance} />}
      flush
    >
      <Spread balance={balance} />
      <DataTable
        label={`Shards of ${dataset.name} by worker`}
        rows={balance.shares}
        columns={columns}
        rowKey={(row) => row.worker_id}
        initialSort={{ column: "shards", descending: true }}
        height={listHeight(balance.shares.length, 12)}
      />
    </Panel>
  );
}

const WHY_UNEVEN =
  "Shards are dealt evenly when an epoch begins. A change of members in its middle deals the open shards evenly, and " +
  "leaves those that were seen with their owners.";

function Verdict({ balance }: { balance: Balance }) {
  const { unowned, outside } = balance;
  return (
    <>
      {unowned === 0 ? null : unowned === null ? (
        <Badge
          icon="info"
          tone="neutral"
          word={`the first ${formatCount(balance.shares.length)} of ${formatPlural(balance.workers, "worker")}`}
        />
      ) : (
        <Badge
          icon="hourglass"
          tone="warn"
          word={`${formatPlural(unowned, "shard")} without an owner`}
          title="Nobody owns them now; open ones are dealt with the next generation."
        />
      )}
      {outside === 0 ? (
        <Badge icon="check-circle" tone="ok" word="Even" title={`Each worker has ${boundsText(balance)}.`} />
      ) : (
        <Badge
          icon="info"
          tone="info"
          word={`${formatPlural(outside, "worker")} beside the even spread`}
          title={WHY_UNEVEN}
        />
      )}
    </>
  );
}

/** In words: how many workers hold how many. Long spreads are cut in the middle, where they are even. */
function Spread({ balance }: { balance: Balance }) {
  const rows = spread(balance.shares);
  const shown = rows.length <= SPREAD_ROWS ? rows : [...rows.slice(0, 2), ...rows.slice(-(SPREAD_ROWS - 2))];
  return (
    <dl className="flex flex-wrap gap-x-5 gap-y-1 border-b border-line px-3.5 py-2 text-xs">
      <div className="flex gap-1.5">
        <dt className="text-ink-3">Even spread</dt>
        <dd className="font-medium text-ink">{boundsText(balance)} each</dd>
      </div>
      {shown.map(({ shards, workers }) => (
        <div key={shards} className="flex gap-1.5">
          <dt className="text-ink-3">{formatPlural(workers, "worker")}</dt>
          <dd className="font-medium text-ink">{formatPlural(shards, "shard")}</dd>
        </div>
      ))}
      {rows.length > shown.length ? (
        <div className="text-ink-3">and {formatCount(rows.length - shown.length)} sizes between</div>
      ) : null}
    </dl>
  );
}

function columnsFor({ floor, ceiling, most }: Balance): readonly Column<ShardShare>[] {
  return [
    {
      id: "worker",
      header: "Worker",
      width: "minmax(8rem, 12rem)",
      sort: (row) => row.worker_id,
      cell: (row) => <WorkerLink id={row.worker_id} />,
    },
    {
      id: "shards",
      header: "Held",
      width: "4rem",
      align: "end",
      sort: (row) => row.shards,
      cell: (row) => formatCount(row.shards),
    },
    {
      id: "bar",
      header: `Against ${boundsText({ floor, ceiling })}`,
      width: "minmax(8rem, 1fr)",
      cell: (row) => <BoundBar held={row.shards} floor={floor} ceiling={ceiling} full={Math.max(most, ceiling)} />,
    },
    {
      id: "verdict",
      header: "Difference",
      title: "How many more or fewer than an even spread gives",
      width: "6.5rem",
      sort: (row) => differenceOf(row.shards, floor, ceiling),
      cell: (row) => <Difference by={differenceOf(row.shards, floor, ceiling)} />,
    },
  ];
}

function differenceOf(held: number, floor: number, ceiling: number): number {
  return held < floor ? held - floor : held > ceiling ? held - ceiling : 0;
}

function Difference({ by }: { by: number }) {
  if (by === 0) return <Badge plain icon="check" tone="ok" word="even" />;
  return <Badge plain icon="info" tone="info" word={by > 0 ? `${by} more` : `${-by} fewer`} title={WHY_UNEVEN} />;
}

interface BoundBarProps {
  held: number;
  floor: number;
  ceiling: number;
  full: number;
}

/** The column beside it has the number; the two marks are floor and ceiling. */
function BoundBar({ held, floor, ceiling, full }: BoundBarProps) {
  const even = held >= floor && held <= ceiling;
  const percent = (count: number) => `${full === 0 ? 0 : (count / full) * 100}%`;
  return (
    <span aria-hidden="true" className="relative block h-2.5 rounded-xs bg-sunken">
      <span
        className="absolute inset-y-0 left-0 rounded-xs"
        style={{ background: `var(--${even ? "series-1" : "series-3"})`, width: percent(held) }}
      />
      {[...new Set([floor, ceiling])].map((bound) => (
        <span
          key={bound}
          className="absolute -inset-y-1 w-px bg-ink"
          style={{ left: `min(${percent(bound)}, calc(100% - 1px))` }}
        />
      ))}
    </span>
  );
}
