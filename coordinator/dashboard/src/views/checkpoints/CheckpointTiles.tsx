// The figures above the checkpoints: what would be restored now, and how the last ones went.
import type { Checkpoint } from "~/api/types";
import { StatRow, StatTile } from "~/components/StatTile";
import { Age } from "~/components/time/Age";
import { useSlice } from "~/data/context";
import { formatBytes, formatCount, formatDuration, formatPercent } from "~/format/format";
import { Value } from "~/format/Value";
import { lastDurable, median, newShare } from "./checkpoints";

/** So many of the last durable ones make a median. */
const LAST = 20;

export function CheckpointTiles({ checkpoints }: { checkpoints: readonly Checkpoint[] }) {
  const metrics = useSlice("metrics");
  const newest = lastDurable(checkpoints);
  const last = checkpoints.filter((one) => one.status === "durable").slice(0, LAST);
  const writing = checkpoints.filter((one) => one.status === "writing");
  const awaited = writing.reduce((sum, one) => sum + (one.world_size - one.arrived), 0);
  return (
    <StatRow>
      <StatTile
        label="Last durable"
        value={
          newest === undefined ? (
            <Value of={null} format={String} unknown="none is durable yet" />
          ) : (
            <Age at={newest.durable_at ?? newest.created_at} />
          )
        }
        hint={
          newest === undefined
            ? "nothing could be restored now"
            : `step ${formatCount(newest.step)}, epoch ${formatCount(newest.epoch)}`
        }
        {...(newest === undefined ? { tone: "warn" as const } : {})}
      />
      <StatTile
        label="Size of it"
        value={<Value of={newest?.size} format={formatBytes} unknown="none is durable yet" />}
        hint={
          newest === undefined || newShare(newest) === null
            ? "what was new in it is not known"
            : `${formatBytes(newest.written_bytes)} new (${formatPercent(newShare(newest))})`
        }
      />
      <StatTile
        label="Writing now"
        value={formatCount(writing.length)}
        hint={
          writing.length === 0
            ? "nothing is awaited"
            : `${formatCount(awaited)} ${awaited === 1 ? "rank" : "ranks"} awaited`
        }
      />
      <StatTile
        label="Throughput"
        value={
          <Value
            of={metrics?.checkpoint_throughput}
            format={(rate) => `${formatBytes(rate * 1e6)}/s`}
            unknown="no bytes became durable in the last 10 s"
          />
        }
        hint="durable bytes over the last 10 s"
      />
      <StatTile
        label="Time to durable"
        value={
          <Value
            of={median(last.map((one) => one.phases.total_s))}
            format={formatDuration}
            unknown="this coordinator has not seen both ends of one"
          />
        }
        hint={`median of the last ${formatCount(last.length)}`}
      />
    </StatRow>
  );
}
