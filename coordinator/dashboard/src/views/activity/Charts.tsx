// The charts above the event log: how many events there were when, and what the job did at the same time.

import { useMemo } from "react";
import type { Event } from "~/api/types";
import type { TimeSeriesMark } from "~/components/charts/flags";
import { TimeSeries } from "~/components/charts/TimeSeries";
import { rangeHref } from "~/components/events/kinds";
import { eventMarks } from "~/components/events/marks";
import { Segments } from "~/components/filters/Filters";
import { setQuery, useQueryChoice } from "~/components/filters/query";
import { SPANS, spanLabel } from "~/components/filters/spans";
import { Panel } from "~/components/Panel";
import { useNow } from "~/data/clock";
import { useSeries } from "~/data/series";
import { formatClock, formatPercent, formatPlural, formatRate } from "~/format/format";
import { type Bucket, buckets } from "./events";

const BARS = 60;
const SAMPLES = ["samples_per_s"] as const;
const GOODPUT = ["goodput_percent"] as const;

interface ChartsProps {
  events: readonly Event[];
  /** The moment that the address points at. */
  at: number | null;
  range: { from: number; to: number } | null;
}

export function Charts({ events, at, range }: ChartsProps) {
  const [span, setSpan] = useQueryChoice("last", SPANS);
  const now = useNow();
  const seconds = Number(span);
  // Whole steps, so that bars stand still for a while instead of creeping.
  const stepMs = (seconds * 1000) / BARS;
  const end = Math.ceil(now / stepMs) * stepMs;
  const bars = buckets(events, end - seconds * 1000, end, BARS);
  return (
    <div className="grid shrink-0 gap-3 xl:grid-cols-3">
      <Panel
        title="When"
        hint={formatPlural(
          bars.reduce((sum, bar) => sum + total(bar), 0),
          "event",
        )}
        actions={
          <Segments
            label="Time shown"
            options={SPANS.map((value) => ({ value, label: spanLabel(value) }))}
            value={span}
            onChange={setSpan}
          />
        }
      >
        <EventBars bars={bars} range={range} at={at} />
      </Panel>
      <Lines seconds={seconds} events={events} at={at} />
    </div>
  );
}

const total = (bar: Bucket) => bar.info + bar.warning + bar.error;

interface EventBarsProps {
  bars: readonly Bucket[];
  range: { from: number; to: number } | null;
  at: number | null;
}

const PARTS = [
  { level: "error", word: "Errors", token: "span-lost" },
  { level: "warning", word: "Warnings", token: "span-data-wait" },
  { level: "info", word: "Other", token: "series-6" },
] as const;

/** A press on a bar leaves its events in the list; the list itself is the table of this chart. */
function EventBars({ bars, range, at }: EventBarsProps) {
  const top = bars.reduce((most, bar) => Math.max(most, total(bar)), 1);
  const chosen = (bar: Bucket) =>
    (range !== null && bar.from < range.to && bar.to > range.from) || (at !== null && at >= bar.from && at < bar.to);
  return (
    <>
      <div className="flex h-34 items-stretch gap-px border-b border-line-strong">
        {bars.map((bar) => {
          const words = `${formatClock(bar.from)} to ${formatClock(bar.to)}: ${formatPlural(total(bar), "event")}, ${formatPlural(bar.error, "error")}, ${formatPlural(bar.warning, "warning")}`;
          return (
            <button
              key={bar.from}
              type="button"
              tabIndex={-1}
              title={words}
              aria-label={words}
              disabled={total(bar) === 0}
              onClick={() => setQuery({ from: String(Math.floor(bar.from)), to: String(Math.ceil(bar.to)), at: "" })}
              className={`flex min-w-0 flex-1 flex-col justify-end ${chosen(bar) ? "bg-selected" : "enabled:hover:bg-hover"}`}
            >
              {PARTS.map(({ level, token }) =>
                bar[level] === 0 ? null : (
                  <span
                    key={level}
                    className="w-full"
                    style={{ height: `${(bar[level] / top) * 100}%`, minHeight: 2, background: `var(--${token})` }}
                  />
                ),
              )}
            </button>
          );
        })}
      </div>
      <div className="mt-1 flex justify-between text-2xs text-ink-3">
        <span>{formatClock(bars[0]?.from)}</span>
        <ul className="flex gap-3">
          {PARTS.map(({ level, word, token }) => (
            <li key={level} className="flex items-center gap-1">
              <span aria-hidden="true" className="size-2 rounded-xs" style={{ background: `var(--${token})` }} />
              {word}
            </li>
          ))}
        </ul>
        <span>{formatClock(bars.at(-1)?.to)}</span>
      </div>
    </>
  );
}

/** What can be seen in a rate, or the chosen moment alone. */
function marksOf(events: readonly Event[], at: number | null): readonly TimeSeriesMark[] {
  return at === null
    ? eventMarks(events)
    : [{ at: at / 1000, label: formatClock(at), tone: "info", icon: "circle-dot" }];
}

const hrefOf = (from: number, to: number) => rangeHref(from * 1000, to * 1000);

function Lines({ seconds, events, at }: { seconds: number; events: readonly Event[]; at: number | null }) {
  const samples = useSeries(SAMPLES, seconds);
  const goodput = useSeries(GOODPUT, seconds);
  const marks = useMemo(() => marksOf(events, at), [events, at]);
  const shared = {
    height: 132,
    sync: "activity",
    marks,
    flagHref: hrefOf,
    onRange: (from: number, to: number) =>
      setQuery({ from: String(Math.floor(from * 1000)), to: String(Math.ceil(to * 1000)), at: "" }),
  };
  return (
    <>
      <TimeSeries
        {...shared}
        title="Samples"
        hint="committed"
        x={samples.x}
        lines={[{ label: "samples/s", values: samples.values.samples_per_s ?? [] }]}
        format={(value) => (value === null ? "–" : formatRate(value))}
        empty="No sample was committed in this time."
      />
      <TimeSeries
        {...shared}
        title="Goodput"
        hint="of all worker time"
        x={goodput.x}
        lines={[{ label: "training", values: goodput.values.goodput_percent ?? [], token: "span-training" }]}
        format={(value) => (value === null ? "–" : formatPercent(value / 100))}
        empty="No worker reports what it spends its time on."
      />
    </>
  );
}
