// The barriers that somebody waits at: since when, and who has not come.
import { Link } from "wouter";
import type { Barrier } from "~/api/types";
import { WorkerLink } from "~/components/listing/Links";
import { Progress } from "~/components/listing/Progress";
import { Panel } from "~/components/Panel";
import { Badge, StateBadge } from "~/components/StateBadge";
import { Age } from "~/components/time/Age";
import { useSlice } from "~/data/context";
import { formatCount } from "~/format/format";
import { type Awaited, awaitedAt } from "./barriers";

/** Barriers and names that are written out; there are rarely more, and a list of hundreds helps nobody. */
const BARRIERS_SHOWN = 8;
const NAMES_SHOWN = 8;

export function OpenBarriers({ barriers }: { barriers: readonly Barrier[] }) {
  const shown = barriers.slice(0, BARRIERS_SHOWN);
  return (
    <Panel title="Open now" hint={barriers.length === 0 ? "" : formatCount(barriers.length)}>
      {barriers.length === 0 ? (
        <p className="text-sm text-ink-2">Nobody waits at a barrier.</p>
      ) : (
        <ul className="flex flex-col gap-4">
          {shown.map((barrier) => (
            <OpenBarrier key={barrier.id} barrier={barrier} />
          ))}
        </ul>
      )}
      {barriers.length > shown.length ? (
        <p className="mt-3 text-xs text-ink-3">and {formatCount(barriers.length - shown.length)} more</p>
      ) : null}
    </Panel>
  );
}

function OpenBarrier({ barrier }: { barrier: Barrier }) {
  const workers = useSlice("workers") ?? [];
  const hangs = useSlice("hangs") ?? [];
  const awaited = awaitedAt(barrier, workers, hangs);
  const rest = barrier.total - barrier.arrived - Math.min(awaited.length, NAMES_SHOWN);
  return (
    <li>
      <div className="flex flex-wrap items-center gap-x-3 gap-y-1 text-sm">
        <span className="font-medium text-ink">{barrier.name}</span>
        <span className="text-ink-3">step {formatCount(barrier.step)}</span>
        {barrier.commit ? <Badge icon="check" tone="info" word="Commit point" /> : null}
        <span className="flex min-w-24 flex-1 items-center gap-2">
          <Progress share={barrier.total === 0 ? 0 : barrier.arrived / barrier.total} token="span-barrier" />
          <span className="text-xs whitespace-nowrap">
            {formatCount(barrier.arrived)} of {formatCount(barrier.total)}
          </span>
        </span>
        <span className="text-xs text-ink-3">
          open since <Age at={barrier.created_at} />
        </span>
      </div>
      <ul className="mt-1.5 flex flex-col gap-1 border-l-2 border-line pl-3" aria-label={`Awaited at ${barrier.name}`}>
        {awaited.slice(0, NAMES_SHOWN).map((one) => (
          <AwaitedWorker key={one.id} awaited={one} />
        ))}
        {rest > 0 ? <li className="text-xs text-ink-3">and {formatCount(rest)} more</li> : null}
      </ul>
    </li>
  );
}

function AwaitedWorker({ awaited: { id, worker, hang } }: { awaited: Awaited }) {
  return (
    <li className="flex flex-wrap items-center gap-x-3 text-sm">
      <WorkerLink id={id} />
      {worker === undefined ? (
        <span className="text-xs text-ink-3">not registered now</span>
      ) : (
        <>
          <StateBadge state={worker.state} plain />
          <span className="text-xs text-ink-3">
            at step {formatCount(worker.current_step)}, moved <Age at={worker.moved_at} />
          </span>
        </>
      )}
      {hang === undefined ? null : (
        <Link href={`/workers/${encodeURIComponent(id)}`} className="underline-offset-2 hover:underline">
          <Badge icon="hourglass" tone="danger" word="Hangs: see its stacks" title={hang.where} />
        </Link>
      )}
    </li>
  );
}
