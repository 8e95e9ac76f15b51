// The timeline view: what each worker spent its time on, back to an hour ago, and who was late at each barrier of it.
import { useEffect, useMemo, useState } from "react";
import { navigate } from "wouter/use-browser-location";
import { IconButton } from "~/components/Button";
import { EmptyState, ErrorState, Loading } from "~/components/EmptyState";
import { FilterBar, SearchField, Segments } from "~/components/filters/Filters";
import { useQueryNumber, useQuerySearch } from "~/components/filters/query";
import { Page, Panel } from "~/components/Panel";
import { AXIS_HEIGHT_PX, LANE_HEIGHT_PX } from "~/components/swimlane/draw";
import { timelineLanes } from "~/components/swimlane/kinds";
import { Swimlane } from "~/components/swimlane/Swimlane";
import { clampView, type View } from "~/components/swimlane/viewport";
import { useDashboard } from "~/data/context";
import { useTimeline } from "~/data/queries";
import { formatCount } from "~/format/format";
import { useStand } from "./address";
import { Releases } from "./Releases";
import { releaseMarks, releasesIn } from "./releases";
import { boundsAt, everyMs, type Pages, pagesOf, rowsFor, windowFor } from "./window";

const SPANS = [
  { value: "60", label: "1 min" },
  { value: "300", label: "5 min" },
  { value: "900", label: "15 min" },
  { value: "3600", label: "1 h" },
] as const;

/** A drag over the table's row shows this much around its barrier, at least. */
const AROUND_MS = 60_000;

export default function TimelineView() {
  const present = useDashboard((state) => (state === null ? null : Math.floor(state.at / 1000) * 1000));
  const workers = useDashboard((state) => state?.workers.length ?? 0);
  const [search, setSearch, wanted] = useQuerySearch();
  const [page, setPage] = useQueryNumber("page");
  const [{ lengthMs, paused }, stand] = useStand();

  const { seconds, end } = windowFor(paused, lengthMs);
  const rows = rowsFor(seconds);
  const offset = (page ?? 0) * rows;
  // What ends in the past does not change any more.
  const moving = end === null || present === null || end > present;
  const timeline = useTimeline(
    { seconds, offset, limit: rows, search: wanted, ...(end === null ? {} : { end }) },
    moving ? { everyMs: everyMs(seconds) } : {},
  );
  const { data } = timeline;
  const known = data === undefined ? null : data.start + data.steps * data.step_s * 1000;
  const to = (paused === null ? known : present) ?? present ?? 0;
  const bounds = useMemo(() => boundsAt(to), [to]);
  const view = useMemo(
    () => paused ?? clampView({ from: bounds.to - lengthMs, to: bounds.to }, bounds),
    [paused, lengthMs, bounds],
  );
  const lanes = useMemo(() => (data === undefined ? [] : timelineLanes(data)), [data]);
  const shown = useMemo(() => releasesIn(data?.releases ?? [], view), [data, view]);
  const marks = useMemo(() => releaseMarks(shown), [shown]);
  const height = useLanesHeight(lanes.length);

  if (data === undefined) {
    if (timeline.error !== null) {
      return (
        <Page>
          <ErrorState title="The timeline cannot be read" error={timeline.error} onRetry={() => timeline.refetch()} />
        </Page>
      );
    }
    return <Loading label="Loading the timeline" rows={8} />;
  }
  if (data.total_workers === 0 && workers === 0 && search === "") return <NoTime />;
  const pages = pagesOf(page ?? 0, rows, data.total_workers);
  const showAt = (at: number) => {
    const length = Math.min(lengthMs, AROUND_MS);
    const next: View = clampView({ from: at - length / 2, to: at + length / 2 }, bounds);
    stand({ lengthMs: length, paused: next });
  };
  return (
    <Page fill>
      <FilterBar>
        <SearchField
          label="Search workers"
          value={search}
          onChange={(text) => {
            setSearch(text);
            setPage(null);
          }}
        />
        <Segments
          label="Time shown"
          options={SPANS}
          value={String(Math.round(lengthMs / 1000)) as (typeof SPANS)[number]["value"]}
          onChange={(value) => {
            const length = Number(value) * 1000;
            const around = paused === null ? null : clampView({ from: paused.to - length, to: paused.to }, bounds);
            stand({ lengthMs: length, paused: around });
          }}
        />
        <span className="text-xs text-ink-3">
          Drag or use the arrows to go back, Ctrl and the wheel or plus and minus to zoom.
        </span>
        <Pager
          pages={pages}
          rows={rows}
          total={data.total_workers}
          onPage={(next) => setPage(next === 0 ? null : next)}
        />
      </FilterBar>
      <Swimlane
        title="What workers spent their time on"
        lanes={lanes}
        bounds={bounds}
        paused={paused}
        lengthMs={lengthMs}
        onPausedChange={(next) => stand({ paused: next })}
        onLengthChange={(next) => stand({ lengthMs: next })}
        onOpenLane={(lane) => navigate(`/workers/${encodeURIComponent(lane.id)}`)}
        marks={marks}
        height={height}
        empty={search === "" ? "No worker was there in this time." : `No worker has “${search}” in its name.`}
      />
      <Releases releases={shown} onShow={showAt} />
      <p className="text-xs text-ink-3">
        Workers tell with each heartbeat how much of their time went to what, not in which order: within one heartbeat
        the order is drawn, not measured. What has not been told yet is unknown. The API remembers an hour.
      </p>
    </Page>
  );
}

interface PagerProps {
  pages: Pages;
  rows: number;
  total: number;
  onPage: (page: number) => void;
}

function Pager({ pages: { page, count, offset }, rows, total, onPage }: PagerProps) {
  if (count === 1) return null;
  return (
    <nav aria-label="Pages of workers" className="ml-auto flex items-center gap-1 text-xs text-ink-2">
      <IconButton icon="chevron-left" label="Workers before" disabled={page === 0} onClick={() => onPage(page - 1)} />
      <span aria-live="polite" className="whitespace-nowrap">
        {formatCount(offset + 1)} to {formatCount(Math.min(offset + rows, total))} of {formatCount(total)} workers
      </span>
      <IconButton
        icon="chevron-right"
        label="Workers after"
        disabled={page >= count - 1}
        onClick={() => onPage(page + 1)}
      />
    </nav>
  );
}

/** As high as its lanes, at most half of the window. */
function useLanesHeight(lanes: number): number {
  const [windowHeight, setWindowHeight] = useState(innerHeight);
  useEffect(() => {
    const measure = () => setWindowHeight(innerHeight);
    addEventListener("resize", measure);
    return () => removeEventListener("resize", measure);
  }, []);
  const most = Math.max(240, Math.floor(windowHeight * 0.5));
  return Math.min(most, Math.max(lanes, 4) * LANE_HEIGHT_PX + AXIS_HEIGHT_PX);
}

function NoTime() {
  return (
    <Page>
      <Panel title="What workers spent their time on">
        <EmptyState icon="timeline" title="No worker has joined yet">
          Each worker has a line here from its first heartbeat on: training, waiting for data, at a barrier, in a
          checkpoint, or lost. <code className="font-mono text-xs">strata run train.py</code> starts some.
        </EmptyState>
      </Panel>
    </Page>
  );
}
