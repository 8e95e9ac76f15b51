// The barriers view: how long barriers take, how far apart workers arrive, who is last, and who is awaited now.
import { useMemo } from "react";
import { navigate } from "wouter/use-browser-location";
import type { Barrier } from "~/api/types";
import { TimeSeries, type TimeSeriesLine } from "~/components/charts/TimeSeries";
import { EmptyState, Loading } from "~/components/EmptyState";
import { rangeHref } from "~/components/events/kinds";
import { eventMarks } from "~/components/events/marks";
import { FilterBar, SearchField, Segments, shownOf } from "~/components/filters/Filters";
import { useQueryChoice, useQuerySearch } from "~/components/filters/query";
import { SPANS, spanLabel } from "~/components/filters/spans";
import { listHeight } from "~/components/listing/listing";
import { Page, Panel } from "~/components/Panel";
import { DataTable } from "~/components/table/DataTable";
import { searchRows } from "~/components/table/order";
import { useSlice } from "~/data/context";
import { type SeriesData, useSeries } from "~/data/series";
import { formatDuration } from "~/format/format";
import { BarrierTiles } from "./BarrierTiles";
import { FILTERS, type Filter, isOpen, passes } from "./barriers";
import { BARRIER_COLUMNS } from "./columns";
import { Latecomers } from "./Latecomers";
import { OpenBarriers } from "./OpenBarriers";

const LABELS: Record<Filter, string> = { all: "All", commit: "Commit points", other: "Other", broken: "Broken" };

const formatMs = (value: number | null) => (value === null ? "–" : formatDuration(value / 1000));

export default function BarriersView() {
  const barriers = useSlice("barriers");
  const statistics = useSlice("barrier_statistics");
  if (barriers === undefined || statistics === undefined) return <Loading label="Loading barriers" />;
  const open = barriers.filter(isOpen);
  const ended = barriers.filter((one) => !isOpen(one));
  if (barriers.length === 0) return <NoBarriers />;
  return (
    <Page>
      <BarrierTiles statistics={statistics} />
      <div className="grid gap-3 xl:grid-cols-2">
        <OpenBarriers barriers={open} />
        <Latecomers statistics={statistics} />
      </div>
      <Charts />
      <Ended barriers={ended} />
    </Page>
  );
}

const WAITS = ["barrier_p50_ms", "barrier_p99_ms"] as const;
const SKEWS = ["skew_p50_ms", "skew_p99_ms"] as const;
const NAMES = [...WAITS, ...SKEWS] as const;

function linesOf([median, tail]: readonly [string, string], values: SeriesData["values"]): TimeSeriesLine[] {
  return [
    { label: "p50", values: values[median] ?? [] },
    { label: "p99", values: values[tail] ?? [], token: "series-3" },
  ];
}

const hrefOf = (from: number, to: number) => rangeHref(from * 1000, to * 1000);

function Charts() {
  const events = useSlice("events");
  const marks = useMemo(() => eventMarks(events ?? []), [events]);
  const [span, setSpan] = useQueryChoice("last", SPANS);
  const { x, values } = useSeries(NAMES, Number(span));
  const [waits, skews] = useMemo(() => [WAITS, SKEWS].map((names) => linesOf(names, values)), [values]);
  const shared = {
    x,
    format: formatMs,
    sync: "barriers",
    empty: "No barrier has ended in this time.",
    marks,
    flagHref: hrefOf,
    onRange: (from: number, to: number) => navigate(hrefOf(from, to)),
  };
  return (
    <>
      <FilterBar status="Flags are events; drag over a chart to see all of a stretch of time.">
        <Segments
          label="Time shown"
          options={SPANS.map((value) => ({ value, label: spanLabel(value) }))}
          value={span}
          onChange={setSpan}
        />
      </FilterBar>
      <div className="grid gap-3 xl:grid-cols-2">
        <TimeSeries {...shared} title="Wait" hint="first arrival to release" lines={waits ?? []} />
        <TimeSeries {...shared} title="Arrival skew" hint="first arrival to last" lines={skews ?? []} />
      </div>
    </>
  );
}

function Ended({ barriers }: { barriers: readonly Barrier[] }) {
  const [text, setText, search] = useQuerySearch();
  const [filter, setFilter] = useQueryChoice("show", FILTERS);
  const rows = barriers.filter((one) => passes(one, filter));
  const shown = searchRows(rows, BARRIER_COLUMNS, search);
  return (
    <>
      <FilterBar status={shownOf(shown.length, barriers.length, "ended barrier")}>
        <SearchField label="Search barriers and workers" value={text} onChange={setText} />
        <Segments
          label="Show"
          options={FILTERS.map((value) => ({ value, label: LABELS[value] }))}
          value={filter}
          onChange={setFilter}
        />
      </FilterBar>
      <Panel title="The last that ended" hint="newest first" flush>
        <DataTable
          label="Ended barriers"
          rows={rows}
          columns={BARRIER_COLUMNS}
          rowKey={(row) => row.id}
          search={search}
          height={listHeight(shown.length, 14)}
          empty={<p className="px-4 py-10 text-center text-ink-2">No barrier of this kind has ended lately.</p>}
        />
      </Panel>
    </>
  );
}

function NoBarriers() {
  return (
    <Page>
      <Panel title="Barriers">
        <EmptyState icon="barriers" title="No worker has come to a barrier yet">
          Workers meet at a commit point after each step, and wherever the program calls{" "}
          <code className="font-mono text-xs">barrier()</code>. How long they wait and who is late then shows here.
        </EmptyState>
      </Panel>
    </Page>
  );
}
