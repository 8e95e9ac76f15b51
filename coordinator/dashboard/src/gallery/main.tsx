// Every component with made-up data, for those who change one: `npm run dev`, then /gallery.html. Not part of the build.
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { useState } from "react";
import { createRoot } from "react-dom/client";
import { Banner } from "~/components/Banner";
import { Button, IconButton } from "~/components/Button";
import { BarList, Histogram, ShareBar } from "~/components/charts/Bars";
import { TimeSeries } from "~/components/charts/TimeSeries";
import { Drawer, Fact, Facts } from "~/components/Drawer";
import { EmptyState, ErrorState, Loading } from "~/components/EmptyState";
import { ExportButton } from "~/components/ExportButton";
import { tableCsv } from "~/components/export";
import { FilterBar, SearchField, Select, shownOf } from "~/components/filters/Filters";
import { ToggleGroup } from "~/components/filters/ToggleGroup";
import { HealthStrip, WorkerStateBar } from "~/components/HealthStrip";
import { CodeBlock } from "~/components/logs/CodeBlock";
import { LogLines } from "~/components/logs/LogLines";
import { Page, Panel } from "~/components/Panel";
import { StateBadge, stateLook, WORKER_STATES } from "~/components/StateBadge";
import { StatRow, StatTile } from "~/components/StatTile";
import { Swimlane } from "~/components/swimlane/Swimlane";
import type { View } from "~/components/swimlane/viewport";
import { Tabs } from "~/components/Tabs";
import { DataTable } from "~/components/table/DataTable";
import type { Column } from "~/components/table/order";
import { formatBytesRate, formatCount, formatDuration, formatRate, formatSi } from "~/format/format";
import { Value } from "~/format/Value";
import { lanes, lines, type SampleWorker, series, WORKERS } from "./samples";
import "~/styles.css";

const NOW = Date.now();
const SECONDS = 300;
const X = Array.from({ length: SECONDS }, (_, at) => NOW / 1000 - SECONDS + at);
const SAMPLES = series(SECONDS, 312_000, 3);
const P50 = series(SECONDS, 0.0021, 5);
const P99 = series(SECONDS, 0.0046, 7);
const LANES = lanes(NOW, 900);
const LINES = lines(NOW);
const BOUNDS = { from: NOW - 900_000, to: NOW };

const COLUMNS: readonly Column<SampleWorker>[] = [
  { id: "id", header: "Worker", cell: (row) => row.id, sort: (row) => row.id, width: "minmax(9rem, 1fr)" },
  {
    id: "rank",
    header: "Rank",
    cell: (row) => <Value of={row.rank} format={String} unknown="not in this generation" />,
    sort: (row) => row.rank,
    width: "5rem",
    align: "end",
  },
  {
    id: "state",
    header: "State",
    cell: (row) => <StateBadge plain state={row.state} />,
    sort: (row) => stateLook(row.state).word,
    width: "9rem",
  },
  {
    id: "step",
    header: "Step",
    cell: (row) => formatCount(row.step),
    sort: (row) => row.step,
    width: "6rem",
    align: "end",
  },
  {
    id: "rate",
    header: "Samples/s",
    cell: (row) => <Value of={row.rate} format={formatSi} unknown="it does not report this" />,
    sort: (row) => row.rate,
    width: "7rem",
    align: "end",
  },
];

function Gallery() {
  const [open, setOpen] = useState<SampleWorker | null>(null);
  const [search, setSearch] = useState("");
  const [states, setStates] = useState<ReadonlySet<string>>(new Set());
  const [paused, setPaused] = useState<View | null>(null);
  const [length, setLength] = useState(120_000);
  const [tab, setTab] = useState("one");
  const shown = WORKERS.filter((row) => states.size === 0 || states.has(row.state));
  return (
    <div id="drawers" className="relative flex h-full flex-col">
      <main className="min-h-0 flex-1 overflow-y-auto">
        <h1 className="sr-only">Components</h1>
        <Page>
          <Banner tone="danger" action={<Button icon="refresh">Try now</Button>}>
            No answer from the API since <strong>14:02:11</strong>; showing the last state.
          </Banner>
          <HealthStrip
            items={[
              { id: "w", label: "Workers", value: "991 of 1,000 training", tone: "ok", detail: "world size 1,000" },
              { id: "g", label: "Goodput", value: "97.3 %", tone: "ok", detail: "over the last minute" },
              {
                id: "c",
                label: "Last durable checkpoint",
                value: "12 min ago",
                tone: "warn",
                detail: "usually every 3 min",
              },
              { id: "a", label: "Alerts", value: "1 worker lost", tone: "danger", detail: "worker-3, 14:02:11" },
            ]}
          />
          <StatRow>
            <StatTile
              icon="zap"
              label="Throughput"
              value={formatRate(312_400, "samples")}
              hint="over the last 10 s"
              spark={SAMPLES}
            />
            <StatTile icon="save" label="Checkpoint writes" value={formatBytesRate(1.21e9)} hint="the last one" />
            <StatTile
              icon="activity"
              label="Coordinator"
              value={formatRate(20_140, "requests")}
              hint="over the last 10 s"
              spark={P50}
            />
            <StatTile
              icon="clock"
              label="Barrier p99"
              value={<Value of={null} format={formatDuration} unknown="no barrier has ended yet" />}
              hint="no barrier has ended yet"
            />
          </StatRow>
          <div className="grid gap-3 lg:grid-cols-2">
            <TimeSeries
              title="Samples per second"
              x={X}
              lines={[{ label: "Samples", values: SAMPLES }]}
              format={(value) => formatRate(value)}
              sync="gallery"
            />
            <TimeSeries
              title="Barrier wait"
              x={X}
              lines={[
                { label: "p50", values: P50 },
                { label: "p99", values: P99 },
              ]}
              format={formatDuration}
              sync="gallery"
              marks={[{ at: NOW / 1000 - 60, label: "checkpoint" }]}
            />
          </div>
          <Swimlane
            title="Worker time"
            lanes={LANES}
            bounds={BOUNDS}
            paused={paused}
            lengthMs={length}
            onPausedChange={setPaused}
            onLengthChange={setLength}
            height={260}
            onOpenLane={(lane) => setOpen(WORKERS.find((row) => row.id === lane.id) ?? null)}
            marks={[{ at: NOW - 31_000, label: "barrier broken", broken: true }]}
          />
          <Panel title="Workers by state">
            <WorkerStateBar
              counts={Object.fromEntries(
                WORKER_STATES.map((state) => [state, WORKERS.filter((row) => row.state === state).length]),
              )}
            />
          </Panel>
          <FilterBar status={shownOf(shown.length, WORKERS.length, "worker")}>
            <SearchField label="Search workers" value={search} onChange={setSearch} />
            <ToggleGroup
              label="States"
              chosen={states}
              onChange={setStates}
              options={["TRAINING", "CHECKPOINTING", "FAILED"].map((value) => ({
                value,
                label: stateLook(value).word,
                icon: stateLook(value).icon,
              }))}
            />
            <Select
              label="Level"
              value="info"
              onChange={() => {}}
              options={[{ value: "info", label: "Info and above" }]}
            />
            <ExportButton name="workers" csv={() => tableCsv(COLUMNS, shown)} json={() => shown} />
          </FilterBar>
          <Panel title="Workers" flush>
            <DataTable
              label="Workers"
              rows={shown}
              columns={COLUMNS}
              rowKey={(row) => row.id}
              search={search}
              onOpen={setOpen}
              openKey={open?.id ?? null}
              height="16rem"
            />
          </Panel>
          <div className="grid gap-3 lg:grid-cols-2">
            <Histogram
              title="Barrier wait"
              noun="barriers"
              bins={[3, 8, 21, 34, 18, 7, 2, 0, 1].map((count, at) => ({ label: `${at + 1} ms`, count }))}
            />
            <Panel title="Most often last">
              <BarList
                label="Workers that were last at barriers"
                bars={[
                  { id: "a", label: "worker-31", value: 41, text: "41" },
                  { id: "b", label: "worker-4", value: 12, text: "12" },
                  { id: "c", label: "worker-7", value: 5, text: "5" },
                ]}
              />
              <div className="h-4" />
              <ShareBar
                label="Shares of time"
                shares={[
                  { id: "t", label: "Training", share: 0.9, token: "span-training", text: "90 %" },
                  { id: "d", label: "Data wait", share: 0.07, token: "span-data-wait", text: "7 %" },
                  { id: "b", label: "Barrier", share: 0.03, token: "span-barrier", text: "3 %" },
                ]}
              />
            </Panel>
          </div>
          <Panel title="Log" flush>
            <LogLines label="Log" lines={LINES} height="14rem" />
          </Panel>
          <Tabs
            label="Parts"
            tabs={[
              { id: "one", label: "Stacks", count: 2 },
              { id: "two", label: "Empty" },
              { id: "three", label: "Error" },
              { id: "four", label: "Loading" },
            ]}
            chosen={tab}
            onChange={setTab}
          >
            {tab === "one" ? (
              <CodeBlock
                label="stack"
                text={
                  'Thread 0x7f (most recent call first):\n  File "train.py", line 41 in step\n  File "train.py", line 88 in <module>'
                }
              />
            ) : null}
            {tab === "two" ? (
              <EmptyState icon="workers" title="No worker has joined yet">
                Start one.
              </EmptyState>
            ) : null}
            {tab === "three" ? (
              <ErrorState title="The logs could not be read" error="Nobody answers." onRetry={() => {}} />
            ) : null}
            {tab === "four" ? <Loading /> : null}
          </Tabs>
          <div className="flex gap-2">
            <Button weight="primary" icon="play">
              Start a job
            </Button>
            <Button>Plain</Button>
            <Button weight="danger" icon="stop">
              Stop
            </Button>
            <Button disabled>Disabled</Button>
            <IconButton icon="settings" label="Settings" />
          </div>
        </Page>
      </main>
      {open === null ? null : (
        <Drawer
          title={open.id}
          badge={<StateBadge state={open.state} />}
          onClose={() => setOpen(null)}
          resetKey={open.id}
        >
          <Facts>
            <Fact name="Rank">
              <Value of={open.rank} format={String} unknown="not in this generation" />
            </Fact>
            <Fact name="Step">{formatCount(open.step)}</Fact>
          </Facts>
        </Drawer>
      )}
    </div>
  );
}

const root = document.getElementById("root");
if (root !== null) {
  createRoot(root).render(
    <QueryClientProvider client={new QueryClient()}>
      <Gallery />
    </QueryClientProvider>,
  );
}
