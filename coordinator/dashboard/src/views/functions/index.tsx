// The functions view: how much waits, how fast it goes, what fails, who works, and any one task's story.
import { useMemo } from "react";
import { navigate } from "wouter/use-browser-location";
import type { Event, Functions } from "~/api/types";
import { Banner } from "~/components/Banner";
import { TimeSeries } from "~/components/charts/TimeSeries";
import { EmptyState, Loading } from "~/components/EmptyState";
import { rangeHref } from "~/components/events/kinds";
import { eventMarks } from "~/components/events/marks";
import { FilterBar, Segments } from "~/components/filters/Filters";
import { useOpenRow, useQueryChoice } from "~/components/filters/query";
import { SPANS, spanLabel } from "~/components/filters/spans";
import { Page, Panel } from "~/components/Panel";
import { Age } from "~/components/time/Age";
import { useSlice } from "~/data/context";
import { useSeries } from "~/data/series";
import { formatCount, formatRate } from "~/format/format";
import { FunctionTiles } from "./FunctionTiles";
import { FunctionWorkers } from "./FunctionWorkers";
import { TaskDrawer } from "./TaskDrawer";
import { Tasks } from "./Tasks";

export default function FunctionsView() {
  const functions = useSlice("functions");
  const [task, open] = useOpenRow("/functions");
  if (functions === undefined) return <Loading label="Loading functions" />;
  if (!functions.connected && functions.mode === null) return <NoDispatcher />;
  return (
    <Page>
      {functions.connected ? null : <Away functions={functions} />}
      <FunctionTiles functions={functions} />
      <Charts />
      <FunctionWorkers workers={functions.workers} />
      <Tasks openId={task} onOpen={open} />
      {task === null ? null : <TaskDrawer id={task} onClose={() => open(null)} />}
    </Page>
  );
}

function Away({ functions }: { functions: Functions }) {
  return (
    <Banner tone="warn">
      The dispatcher at {functions.address} was last heard <Age at={functions.since} />; what is shown is as of then.
      The workers finish what they hold, and this page recovers by itself.
    </Banner>
  );
}

const QUEUE = ["queued_tasks"] as const;
const RATES = ["tasks_per_s", "task_failures_per_s"] as const;

/** Single failures are in the rates; a flag for each would hide them. */
const isOfFunctions = (event: Event) => event.origin === "dispatcher" && event.kind !== "task_failed";
const hrefOf = (from: number, to: number) => rangeHref(from * 1000, to * 1000);

function Charts() {
  const events = useSlice("events");
  const marks = useMemo(() => eventMarks((events ?? []).filter(isOfFunctions)), [events]);
  const [span, setSpan] = useQueryChoice("last", SPANS);
  const queue = useSeries(QUEUE, Number(span));
  const rates = useSeries(RATES, Number(span));
  const shared = {
    height: 130,
    sync: "functions",
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
        <TimeSeries
          {...shared}
          title="Queue"
          hint="tasks that wait"
          x={queue.x}
          lines={[{ label: "queued", values: queue.values.queued_tasks ?? [] }]}
          format={(value) => (value === null ? "–" : formatCount(value))}
        />
        <TimeSeries
          {...shared}
          title="Ends"
          hint="tasks per second"
          x={rates.x}
          lines={[
            { label: "ended", values: rates.values.tasks_per_s ?? [] },
            { label: "failed", values: rates.values.task_failures_per_s ?? [], token: "series-5" },
          ]}
          format={(value) => (value === null ? "–" : formatRate(value))}
        />
      </div>
    </>
  );
}

function NoDispatcher() {
  return (
    <Page>
      <Panel title="Functions">
        <EmptyState icon="functions" title="No dispatcher of functions is connected">
          <p>
            Start one with its workers by <code className="font-mono text-xs">strata functions up</code>, and tell this
            API of it by <code className="font-mono text-xs">strata api --dispatcher URL</code>. Queues, rates, failures
            and each task's story then show here.
          </p>
        </EmptyState>
      </Panel>
    </Page>
  );
}
