// Who is late: who is awaited at this moment, and who came last to the barriers that ended lately.
import { useMemo } from "react";
import { Link } from "wouter";
import { BarList } from "~/components/charts/Bars";
import { Icon } from "~/components/Icon";
import { WorkerLink } from "~/components/listing/Links";
import { Panel } from "~/components/Panel";
import { Badge } from "~/components/StateBadge";
import { Age } from "~/components/time/Age";
import { useNow } from "~/data/clock";
import { useSlice } from "~/data/context";
import { formatCount, formatDuration, formatPlural } from "~/format/format";
import { AWAITED_MS, awaited, type Latecomer, lateness } from "./late";

const AWAITED_SHOWN = 4;
const LATE_SHOWN = 5;
const BARRIERS = 60;

export function Late() {
  const barriers = useSlice("barriers");
  const recent = useMemo(() => lateness(barriers ?? [], BARRIERS), [barriers]);
  return (
    <Panel
      title="Who is late"
      actions={
        <Link href="/barriers" className="text-xs text-ink-2 underline-offset-2 hover:text-ink hover:underline">
          All barriers
        </Link>
      }
    >
      <div className="flex flex-col gap-4">
        <Now />
        <div>
          <h3 className="mb-1.5 text-xs text-ink-3">
            {recent.barriers === 0
              ? "Last to arrive"
              : `Last to arrive, at the last ${formatPlural(recent.barriers, "barrier")}`}
          </h3>
          <Recent latecomers={recent.latecomers} barriers={recent.barriers} />
        </div>
      </div>
    </Panel>
  );
}

function Now() {
  const now = useNow();
  const barriers = useSlice("barriers");
  const hangs = useSlice("hangs");
  const rows = useMemo(() => awaited(barriers ?? [], hangs ?? [], now), [barriers, hangs, now]);
  if (rows.length === 0) {
    return (
      <p className="flex items-center gap-2 text-sm text-ink-2">
        <Icon name="check-circle" size={15} className="text-ok" />
        Nobody is awaited for longer than {formatDuration(AWAITED_MS / 1000)}.
      </p>
    );
  }
  return (
    <ul aria-label="Awaited now" className="flex flex-col gap-1.5">
      {rows.slice(0, AWAITED_SHOWN).map((row) => (
        <li key={row.id} className="flex flex-wrap items-center gap-x-2.5 gap-y-0.5 text-sm">
          {row.hanging ? (
            <Badge icon="hourglass" tone="danger" word="Hangs" />
          ) : (
            <Badge icon="clock" tone="warn" word="Awaited" />
          )}
          <span className="font-medium">
            <WorkerLink id={row.id} />
          </span>
          <span className="min-w-0 text-ink-2">
            at {row.barrier}; {formatPlural(row.waiters, "worker waits", "workers wait")}
          </span>
          <span className="ml-auto text-xs text-ink-3">
            since <Age at={row.since} />
          </span>
        </li>
      ))}
      {rows.length > AWAITED_SHOWN ? (
        <li className="text-xs text-ink-3">and {formatCount(rows.length - AWAITED_SHOWN)} more</li>
      ) : null}
    </ul>
  );
}

function Recent({ latecomers, barriers }: { latecomers: readonly Latecomer[]; barriers: number }) {
  if (latecomers.length === 0) {
    return <p className="text-sm text-ink-2">No barrier has told its workers apart yet.</p>;
  }
  return (
    <BarList
      label="Workers by how often they came last"
      full={barriers}
      bars={latecomers.slice(0, LATE_SHOWN).map(({ id, times, most_ms }) => ({
        id,
        label: <WorkerLink id={id} />,
        value: times,
        text: `${formatPlural(times, "time")}, at most ${formatDuration(most_ms / 1000)}`,
        token: "span-barrier",
      }))}
    />
  );
}
