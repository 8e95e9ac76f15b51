// The settings view: what each process runs with, and where each value came from.
import { useState } from "react";
import type { Setting } from "~/api/types";
import { Button } from "~/components/Button";
import { Fact, Facts } from "~/components/Drawer";
import { EmptyState, Loading } from "~/components/EmptyState";
import { FilterBar, SearchField, Segments, Select, shownOf } from "~/components/filters/Filters";
import { useQueryChoice, useQuerySearch } from "~/components/filters/query";
import type { IconName } from "~/components/Icon";
import { downloadText, fileName } from "~/components/logs/download";
import { Page, Panel } from "~/components/Panel";
import { Badge } from "~/components/StateBadge";
import { DataTable } from "~/components/table/DataTable";
import { type Column, searchRows } from "~/components/table/order";
import { Age } from "~/components/time/Age";
import type { Tone } from "~/components/tone";
import { useSlice } from "~/data/context";
import { formatCount, formatDuration } from "~/format/format";
import { Value } from "~/format/Value";

const SOURCES: Record<Setting["source"], { word: string; icon: IconName; tone: Tone; meaning: string }> = {
  option: { word: "Option", icon: "chevron-right", tone: "info", meaning: "Given on the command line." },
  environment: { word: "Environment", icon: "monitor", tone: "violet", meaning: "Read from an environment variable." },
  derived: { word: "Derived", icon: "link", tone: "teal", meaning: "Follows from other settings." },
  default: { word: "Default", icon: "circle", tone: "neutral", meaning: "Nobody has set it." },
};

const FILTERS = ["all", "set", "option", "environment", "derived", "default"] as const;
type Filter = (typeof FILTERS)[number];
const LABELS: Record<Filter, string> = {
  all: "All",
  set: "Set by somebody",
  option: "Option",
  environment: "Environment",
  derived: "Derived",
  default: "Default",
};

function passes(setting: Setting, filter: Filter): boolean {
  if (filter === "all") return true;
  if (filter === "set") return setting.source === "option" || setting.source === "environment";
  return setting.source === filter;
}

const COLUMNS: readonly Column<Setting>[] = [
  {
    id: "process",
    header: "Process",
    width: "8rem",
    sort: (row) => row.process,
    cell: (row) => <span className="text-ink-2">{row.process}</span>,
  },
  {
    id: "name",
    header: "Setting",
    width: "minmax(10rem, 16rem)",
    sort: (row) => row.name,
    cell: (row) => <span className="font-mono text-xs text-ink">{row.name}</span>,
  },
  {
    id: "value",
    header: "Value",
    width: "minmax(12rem, 1fr)",
    sort: (row) => row.value,
    cell: (row) =>
      row.value === "" ? (
        <span className="text-ink-3">not set</span>
      ) : (
        <span className="font-mono text-xs text-ink" title={row.value}>
          {row.value}
        </span>
      ),
  },
  {
    id: "source",
    header: "Where it came from",
    width: "10rem",
    sort: (row) => row.source,
    text: (row) => SOURCES[row.source].word,
    cell: (row) => {
      const { word, icon, tone, meaning } = SOURCES[row.source];
      return <Badge plain icon={icon} tone={tone} word={word} title={meaning} />;
    },
  },
];

const PROCESSES = ["all", "coordinator", "dispatcher", "api"] as const;

export default function SettingsView() {
  const settings = useSlice("settings");
  const [text, setText, search] = useQuerySearch();
  const [filter, setFilter] = useQueryChoice("source", FILTERS);
  const [process, setProcess] = useQueryChoice("process", PROCESSES);
  if (settings === undefined) return <Loading label="Loading settings" />;
  const rows = settings.filter((one) => passes(one, filter) && (process === "all" || one.process === process));
  const shown = searchRows(rows, COLUMNS, search);
  return (
    <Page fill>
      <Versions />
      <FilterBar status={shownOf(shown.length, settings.length, "setting")}>
        <SearchField label="Search settings" value={text} onChange={setText} />
        <Segments
          label="Where the value came from"
          options={FILTERS.map((value) => ({ value, label: LABELS[value] }))}
          value={filter}
          onChange={setFilter}
        />
        <Select
          label="Process"
          options={PROCESSES.map((value) => ({ value, label: value }))}
          value={process}
          onChange={setProcess}
        />
        <CopyButton settings={shown} />
      </FilterBar>
      <Panel title="Effective settings" hint="secrets are shown as “set” only" flush className="min-h-60 flex-1">
        <DataTable
          label="Settings"
          rows={rows}
          columns={COLUMNS}
          rowKey={(row) => `${row.process} ${row.name}`}
          search={search}
          empty={settings.length === 0 ? <NoSettings /> : <NothingFound />}
        />
      </Panel>
    </Page>
  );
}

function NoSettings() {
  return (
    <EmptyState icon="settings" title="No process has told its settings yet">
      The coordinator tells them when it is first heard. Is it running, and was this API started with its address?
    </EmptyState>
  );
}

function NothingFound() {
  return <p className="px-4 py-10 text-center text-ink-2">No setting passes the filters. Choose “All”.</p>;
}

function Versions() {
  const coordinator = useSlice("coordinator");
  if (coordinator === undefined) return null;
  const never = "the coordinator has not been heard";
  return (
    <Panel title="Coordinator" hint={coordinator.address} className="shrink-0">
      <div className="grid gap-x-10 gap-y-1.5 sm:grid-cols-2 xl:grid-cols-3">
        <Facts>
          <Fact name="Version">
            <Value of={coordinator.version} format={String} unknown={never} />
          </Fact>
          <Fact name="API's version">{coordinator.api_version}</Fact>
          <Fact name="Dispatcher">
            <Value of={coordinator.dispatcher} format={String} unknown="the API was started without one" />
          </Fact>
        </Facts>
        <Facts>
          <Fact name="Job">
            <Value of={coordinator.job} format={String} unknown={never} />
          </Fact>
          <Fact name="Started">
            <Age at={coordinator.started_at} unknown={never} />
          </Fact>
          <Fact name="Term">
            <Value of={coordinator.term} format={formatCount} unknown={never} />
          </Fact>
        </Facts>
        <Facts>
          <Fact name="Lease">
            <Value of={coordinator.lease_s} format={formatDuration} unknown={never} />
          </Fact>
          <Fact name="Heartbeat every">
            <Value of={coordinator.heartbeat_s} format={formatDuration} unknown={never} />
          </Fact>
          <Fact name="Workers needed">
            <Value of={coordinator.need} format={formatCount} unknown={never} />
          </Fact>
        </Facts>
      </div>
    </Panel>
  );
}

/** What is shown as JSON, for a report of a fault; a file where the browser has no clipboard for this page. */
function CopyButton({ settings }: { settings: readonly Setting[] }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    const text = `${JSON.stringify(settings, null, 2)}\n`;
    try {
      await navigator.clipboard.writeText(text);
      setCopied(true);
      setTimeout(() => setCopied(false), 2000);
    } catch {
      downloadText(fileName("settings", new Date(), "json"), text, "application/json");
    }
  };
  return (
    <Button icon={copied ? "check" : "copy"} disabled={settings.length === 0} onClick={copy}>
      {copied ? "Copied" : "Copy as JSON"}
    </Button>
  );
}
