// How fast the job goes: samples, checkpoint bytes and requests a second, with what happened meanwhile as flags.
import { useMemo } from "react";
import { navigate } from "wouter/use-browser-location";
import { TimeSeries } from "~/components/charts/TimeSeries";
import { rangeHref } from "~/components/events/kinds";
import { eventMarks } from "~/components/events/marks";
import { Segments } from "~/components/filters/Filters";
import { useQueryChoice } from "~/components/filters/query";
import { SPANS, spanLabel } from "~/components/filters/spans";
import { useSlice } from "~/data/context";
import { type SeriesName, useSeries } from "~/data/series";
import { formatBytesRate, formatRate } from "~/format/format";

const NAMES = ["samples_per_s", "checkpoint_megabytes_per_s", "requests_per_s"] as const;

interface Chart {
  name: SeriesName;
  title: string;
  label: string;
  format: (value: number | null) => string;
  token: string;
  empty: string;
}

const dash = (format: (value: number) => string) => (value: number | null) => (value === null ? "–" : format(value));

const CHARTS: readonly Chart[] = [
  {
    name: "samples_per_s",
    title: "Samples",
    label: "committed, over 10 s",
    format: dash((value) => formatRate(value)),
    token: "series-1",
    empty: "No commit point has been reached in this time.",
  },
  {
    name: "checkpoint_megabytes_per_s",
    title: "Checkpoint bytes",
    label: "made durable, over 10 s",
    format: dash((value) => formatBytesRate(value * 1e6)),
    token: "series-2",
    empty: "No checkpoint bytes became durable in this time.",
  },
  {
    name: "requests_per_s",
    title: "Coordinator requests",
    label: "answered, over 10 s",
    format: dash((value) => formatRate(value)),
    token: "series-4",
    empty: "The coordinator has not been heard in this time.",
  },
];

const hrefOf = (from: number, to: number) => rangeHref(from * 1000, to * 1000);
const openRange = (from: number, to: number) => navigate(hrefOf(from, to));

export function Throughput() {
  const [span, setSpan] = useQueryChoice("last", SPANS);
  const { x, values } = useSeries(NAMES, Number(span));
  const events = useSlice("events");
  const marks = useMemo(() => eventMarks(events ?? []), [events]);
  return (
    <section aria-label="Throughput" className="flex flex-col gap-2">
      <div className="flex items-center gap-3 text-xs text-ink-3">
        <span>Flags are events; drag over a chart to see all of a stretch of time.</span>
        <span className="ml-auto" />
        <Segments
          label="Time shown"
          options={SPANS.map((value) => ({ value, label: spanLabel(value) }))}
          value={span}
          onChange={setSpan}
        />
      </div>
      <div className="grid gap-3 xl:grid-cols-3">
        {CHARTS.map((chart) => (
          <TimeSeries
            key={chart.name}
            title={chart.title}
            x={x}
            lines={[{ label: chart.label, values: values[chart.name] ?? [], token: chart.token }]}
            format={chart.format}
            height={150}
            sync="overview"
            marks={marks}
            flagHref={hrefOf}
            onRange={openRange}
            empty={chart.empty}
          />
        ))}
      </div>
    </section>
  );
}
