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

export function BarrierTiles({ statistics }: { statistics: BarrierStatistics }) {
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
        hint={perSecond === null ? span : `${span}, ${formatRate(perSecond)}`}
      />
      <StatTile
        label="Most often last"
        value={last === undefined ? <Value of={null} format={String} unknown={NONE} /> : last.id}
        hint={last === undefined ? "nobody was told apart yet" : `${formatCount(last.times)} times so far`}
        {...(last === undefined ? {} : { href: `/workers/${encodeURIComponent(last.id)}` })}
      />
    </StatRow>
  );
}
