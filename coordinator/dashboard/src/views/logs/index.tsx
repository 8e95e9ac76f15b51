// The logs view: the lines of all processes as they come, filtered where they are kept, and taken along as a file.
import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import type { LogPage } from "~/api/types";
import { Banner } from "~/components/Banner";
import { Button } from "~/components/Button";
import { EmptyState, ErrorState, Loading } from "~/components/EmptyState";
import { FilterBar, SearchField, Segments, Select } from "~/components/filters/Filters";
import { useQueryChoice, useQueryParam } from "~/components/filters/query";
import { useSettled } from "~/components/filters/settled";
import { downloadText, fileName } from "~/components/logs/download";
import { LogList } from "~/components/logs/LogList";
import { LINES_MAX, type LogFilters, mergeLines, toJsonLines } from "~/components/logs/tail";
import { type LogTail, logQuery, useLogTail } from "~/components/logs/useLogTail";
import { Page, Panel } from "~/components/Panel";
import type { ApiClient } from "~/data/client";
import { useClient } from "~/data/context";
import { formatPlural } from "~/format/format";

const LEVEL_CHOICES = ["all", "info", "warning", "error"] as const;
const LEVEL_LABELS = { all: "All", info: "Info and above", warning: "Warnings", error: "Errors" };
/** The longest page that the API gives. */
const EXPORT_PAGE = 10_000;

export default function LogsView() {
  const [search, setSearch] = useQueryParam("q");
  const [source, setSource] = useQueryParam("source");
  const [level, setLevel] = useQueryChoice("level", LEVEL_CHOICES);
  const [follow, setFollow] = useState(true);
  // The API is asked when the typing rests, not with every letter.
  const settled = useSettled(search, 250);
  const filters: LogFilters = { level: level === "all" ? "" : level, source, search: settled };
  const log = useLogTail(filters);
  const { tail } = log;
  const filtered = settled !== "" || source !== "" || level !== "all";
  return (
    <Page fill>
      <FilterBar status={statusText(log)}>
        <SearchField label="Search messages" value={search} onChange={setSearch} />
        <Segments
          label="Least level"
          options={LEVEL_CHOICES.map((value) => ({ value, label: LEVEL_LABELS[value] }))}
          value={level}
          onChange={setLevel}
        />
        <Select
          label="Process"
          options={[{ value: "", label: "all" }, ...tail.sources.map((value) => ({ value, label: value }))]}
          value={source}
          onChange={setSource}
        />
        <Button icon={follow ? "pause" : "live"} aria-pressed={follow} onClick={() => setFollow(!follow)}>
          {follow ? "Following" : "Paused"}
        </Button>
        <Export filters={filters} />
      </FilterBar>
      {log.error !== null && tail.loaded ? (
        <Banner
          tone="danger"
          action={
            <Button icon="refresh" onClick={log.retry}>
              Try again
            </Button>
          }
        >
          Earlier lines could not be read: {log.error instanceof Error ? log.error.message : String(log.error)}
        </Banner>
      ) : null}
      <Panel title="Lines" hint={source === "" ? "of all processes" : `of ${source}`} flush className="min-h-60 flex-1">
        <Body log={log} search={settled} follow={follow} onFollow={setFollow} filtered={filtered} />
      </Panel>
    </Page>
  );
}

function statusText({ tail, loading }: LogTail): string {
  if (!tail.loaded) return "";
  const more = tail.before === null ? "" : loading ? ", reading earlier ones" : " and earlier ones";
  return `${formatPlural(tail.lines.length, "line")}${more}`;
}

interface BodyProps {
  log: LogTail;
  search: string;
  follow: boolean;
  onFollow: (follow: boolean) => void;
  filtered: boolean;
}

function Body({ log, search, follow, onFollow, filtered }: BodyProps) {
  const { tail, loading, error } = log;
  if (!tail.loaded && error !== null) {
    return <ErrorState title="The logs could not be read" error={error} onRetry={log.retry} />;
  }
  if (!tail.loaded && loading) return <Loading label="Loading lines" rows={12} />;
  return (
    <LogList
      label="Log lines, oldest first"
      lines={tail.lines}
      holes={tail.holes}
      search={search}
      follow={follow}
      onFollow={onFollow}
      onReachTop={tail.before === null ? undefined : log.loadEarlier}
      empty={filtered ? <NothingFound /> : <NoLines />}
    />
  );
}

function NothingFound() {
  return (
    <EmptyState icon="filter" title="No line passes the filters">
      The API keeps the last lines of all processes; older ones are in the files of the run's folder. Search for less,
      or choose another level or process.
    </EmptyState>
  );
}

function NoLines() {
  return (
    <EmptyState icon="logs" title="Nothing has been logged yet">
      The processes' files are read when the API is started with{" "}
      <code className="font-mono text-xs">strata api --logs DIR</code>, as{" "}
      <code className="font-mono text-xs">strata run</code> does by itself. Without a folder the events of the
      coordinator stand here, and what the API says itself.
    </EmptyState>
  );
}

async function readAll(client: ApiClient, filters: LogFilters): Promise<LogPage["lines"]> {
  let lines: LogPage["lines"] = [];
  let before: number | null = null;
  do {
    const query = { ...logQuery(filters), limit: EXPORT_PAGE, before };
    const page: LogPage = await client.get<LogPage>("/api/logs", { query, timeoutMs: 60_000 });
    lines = mergeLines(page.lines, lines);
    before = page.before;
  } while (before !== null && lines.length < LINES_MAX);
  return lines;
}

/** All lines that pass the filters and that the API still has, as a file of JSON lines. */
function Export({ filters }: { filters: LogFilters }) {
  const client = useClient();
  const exporting = useMutation({
    mutationFn: () => readAll(client, filters),
    onSuccess: (lines) =>
      downloadText(fileName("logs", new Date(), "jsonl"), toJsonLines(lines), "application/x-ndjson"),
  });
  return (
    <>
      <Button icon="download" disabled={exporting.isPending} onClick={() => exporting.mutate()}>
        {exporting.isPending ? "Reading…" : "Export"}
      </Button>
      {exporting.isError ? (
        <span role="alert" className="text-xs text-danger">
          {exporting.error.message}
        </span>
      ) : null}
    </>
  );
}
