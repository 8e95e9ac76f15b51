// The jobs view: runs that go on and that ended, one of them with its lines, and a form that starts another.
import { useMemo, useState } from "react";
import type { Job } from "~/api/types";
import { Button } from "~/components/Button";
import { EmptyState, Loading } from "~/components/EmptyState";
import { FilterBar, SearchField, Segments, shownOf } from "~/components/filters/Filters";
import { useOpenRow, useQueryChoice, useQueryParam, useQuerySearch } from "~/components/filters/query";
import { listHeight } from "~/components/listing/listing";
import { Page, Panel } from "~/components/Panel";
import { DataTable } from "~/components/table/DataTable";
import { searchRows } from "~/components/table/order";
import { useSlice } from "~/data/context";
import { JOB_COLUMNS } from "./columns";
import { JobDetail } from "./JobDetail";
import { FILTERS, type Filter, inOrder, passes } from "./jobs";
import { StartJob } from "./StartJob";
import { StopDialog } from "./StopDialog";

const LABELS: Record<Filter, string> = { all: "All", active: "Going on", ended: "Ended", failed: "Failed" };

export default function JobsView() {
  const told = useSlice("tasks");
  const templates = useSlice("templates");
  const [text, setText, search] = useQuerySearch();
  const [filter, setFilter] = useQueryChoice("show", FILTERS);
  const [starting, setStarting] = useQueryParam("new");
  const [id, open] = useOpenRow("/jobs");
  const [stopping, setStopping] = useState<Job | null>(null);
  const jobs = useMemo(() => inOrder(told ?? []), [told]);
  if (told === undefined || templates === undefined) return <Loading label="Loading jobs" />;
  const rows = jobs.filter((job) => passes(job, filter));
  const shown = searchRows(rows, JOB_COLUMNS, search);
  const job = jobs.find((one) => one.id === id);
  const firstType = templates[0]?.type ?? null;
  return (
    <Page fill>
      <FilterBar status={shownOf(shown.length, jobs.length, "job")}>
        <SearchField label="Search jobs" value={text} onChange={setText} />
        <Segments
          label="Show"
          options={FILTERS.map((value) => ({ value, label: LABELS[value] }))}
          value={filter}
          onChange={setFilter}
        />
        <Button
          icon="plus"
          weight="primary"
          disabled={firstType === null}
          title={firstType === null ? "The API was started without an allow-list of jobs" : undefined}
          onClick={() => setStarting(firstType ?? "")}
        >
          Start a job
        </Button>
      </FilterBar>
      <Panel title="Jobs" flush className="shrink-0">
        <DataTable
          label="Jobs"
          rows={rows}
          columns={JOB_COLUMNS}
          rowKey={(row) => row.id}
          search={search}
          onOpen={(row) => open(row.id)}
          openKey={id}
          height={listHeight(shown.length, 8)}
          empty={
            <p className="px-4 py-10 text-center text-ink-2">
              {jobs.length === 0
                ? "No job is known: the coordinator's own shows here when it is first heard."
                : "No job is in this state. Choose “All”."}
            </p>
          }
        />
      </Panel>
      {firstType === null ? <NoTemplates /> : null}
      {id === null ? null : job === undefined ? (
        <NoSuchJob id={id} />
      ) : (
        <JobDetail key={job.id} job={job} onStop={() => setStopping(job)} onClose={() => open(null)} />
      )}
      {starting === "" || firstType === null ? null : (
        <StartJob
          templates={templates}
          type={starting}
          taken={jobs.map((one) => one.name)}
          onType={setStarting}
          onClose={() => setStarting("")}
          onStarted={(started) => {
            setStarting("");
            open(started);
          }}
        />
      )}
      {stopping === null ? null : <StopDialog job={stopping} onClose={() => setStopping(null)} />}
    </Page>
  );
}

function NoTemplates() {
  return (
    <Panel title="Nothing can be started from here" className="shrink-0">
      <p className="text-sm text-ink-2">
        The operator lists what may be started in a file, and gives it by{" "}
        <code className="font-mono text-xs">strata api --jobs FILE</code>. A job is then started here with the
        parameters that its entry declares, and nothing else.
      </p>
    </Panel>
  );
}

function NoSuchJob({ id }: { id: string }) {
  return (
    <Panel title={id}>
      <EmptyState icon="question" title="There is no such job">
        It may have been started by another API, or be one of those that are too old to be kept.
      </EmptyState>
    </Panel>
  );
}
