// The figures above the barriers, of the last minute.
import type { BarrierStatistics } from "~/api/types";
import { StatRow, StatTile } from "~/components/StatTile";
import { useSlice } from "~/data/context";
import { formatCount, formatDuration, formatRate } from "~/format/format";
import { Value } from "~/format/Value";
import { latecomers } from "./barriers";

const NONE = "no barrier has ended in this time";

function Millis({ of }: { of: number | null }) {
  return <Value of={of} format={(ms) => formatDuration(ms / 1000)} unknown={NONE} />;
}

export function BarrierTiles({ statistics, open }: { statistics: BarrierStatistics; open: number }) {
  const perSecond = useSlice("metrics")?.barriers_per_s ?? null;
  const last = latecomers(statistics)[0];
  const span = `over the last ${formatDuration(statistics.window_s)}`;
  return (
    <StatRow>
      <StatTile label="Wait, p50" value={<Millis of={statistics.wait_p50_ms} />} hint={span} />
      <StatTile label="Wait, p99" value={<Millis of={statistics.wait_p99_ms} />} hint={span} />
      <StatTile label="Skew, p50" value={<Millis of={statistics.skew_p50_ms} />} hint="last arrival after the first" />
      <StatTile label="Skew, p99" value={<Millis of={statistics.skew_p99_ms} />} hint="last arrival after the first" />
      <StatTile
        label="Ended"
        value={formatCount(statistics.count)}
        hint={perSecond === null ? span : `${span}; now ${formatRate(perSecond)}`}
      />
      <StatTile label="Open now" value={formatCount(open)} hint={open === 0 ? "nobody waits" : "somebody waits"} />
      <StatTile
        label="Most often last"
        value={last === undefined ? <Value of={null} format={String} unknown={NONE} /> : last.id}
        hint={
          last === undefined
            ? "nobody was told apart yet"
            : `${formatCount(last.times)} times since the coordinator began`
        }
        {...(last === undefined ? {} : { href: `/workers/${encodeURIComponent(last.id)}` })}
      />
    </StatRow>
  );
}
