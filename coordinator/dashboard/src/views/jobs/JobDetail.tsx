// One job: what it was started with, and the lines of its processes as they come.
import { useState } from "react";
import { Link } from "wouter";
import type { Job, LogLine } from "~/api/types";
import { Button, IconButton } from "~/components/Button";
import { Fact, Facts } from "~/components/Drawer";
import { EmptyState, ErrorState, Loading } from "~/components/EmptyState";
import { downloadText, fileName } from "~/components/logs/download";
import { LogList } from "~/components/logs/LogList";
import { toJsonLines } from "~/components/logs/tail";
import { Panel } from "~/components/Panel";
import { Badge } from "~/components/StateBadge";
import { Age } from "~/components/time/Age";
import { useNow } from "~/data/clock";
import { useJobLogs } from "~/data/queries";
import { formatCount, formatDuration } from "~/format/format";
import { Value } from "~/format/Value";
import { isActive, ranS, STATUS } from "./jobs";

interface JobDetailProps {
  job: Job;
  onStop: () => void;
  onClose: () => void;
}

export function JobDetail({ job, onStop, onClose }: JobDetailProps) {
  const { word, icon, tone } = STATUS[job.status];
  return (
    <div className="grid min-h-72 flex-1 gap-3 lg:grid-cols-[22rem_minmax(0,1fr)]">
      <Panel
        title={job.name}
        actions={
          <>
            <Badge icon={icon} tone={tone} word={word} />
            <IconButton icon="close" label={`Close ${job.name}`} onClick={onClose} />
          </>
        }
      >
        <JobFacts job={job} />
        {isActive(job) ? (
          <div className="mt-4">
            <Button icon="stop" weight="danger" disabled={!job.stoppable} onClick={onStop}>
              Stop the job
            </Button>
            {job.stoppable ? null : (
              <p className="mt-1.5 text-xs text-ink-3">
                It cannot be stopped from here: whoever started it stops it, or the API with a supervisor's token.
              </p>
            )}
          </div>
        ) : null}
      </Panel>
      {job.origin === "coordinator" ? <OwnLines /> : <Lines job={job} />}
    </div>
  );
}

function JobFacts({ job }: { job: Job }) {
  return (
    <Facts>
      <Fact name="Id">
        <span className="font-mono text-xs">{job.id}</span>
      </Fact>
      <Fact name="Type">{job.type}</Fact>
      <Fact name="Workers">{formatCount(job.worker_count)}</Fact>
      <Fact name="Dataset">
        {job.dataset_id === "" ? <span className="text-ink-3">none named</span> : job.dataset_id}
      </Fact>
      <Fact name="Started">
        <Age at={job.started_at} unknown="it has not begun" />
      </Fact>
      <Fact name="Ran">
        <Value of={ranS(job, useNow())} format={formatDuration} unknown="its beginning or its end was not told" />
      </Fact>
      <Fact name="Ended">
        <Age at={job.ended_at} unknown="it goes on" />
      </Fact>
      <Fact name="Exit status">
        <Value of={job.exit_code} format={String} unknown="it has none: it goes on, or was not waited for" />
      </Fact>
      <Fact name="Process">
        <Value of={job.pid} format={String} unknown="it was not started here" />
      </Fact>
      {Object.entries(job.config).map(([name, value]) => (
        <Fact key={name} name={name}>
          <span className="font-mono text-xs">{typeof value === "string" ? value : JSON.stringify(value)}</span>
        </Fact>
      ))}
      {job.message === "" ? null : <Fact name="Said last">{job.message}</Fact>}
    </Facts>
  );
}

function OwnLines() {
  return (
    <Panel title="Lines">
      <EmptyState
        icon="logs"
        title="The job of this coordinator"
        action={
          <Link href="/logs" className="text-sm font-medium text-accent underline underline-offset-2">
            Open the logs
          </Link>
        }
      >
        Its processes' lines are those of the logs.
      </EmptyState>
    </Panel>
  );
}

const LINES = 2_000;
const NONE: readonly LogLine[] = [];

function Lines({ job }: { job: Job }) {
  const [follow, setFollow] = useState(true);
  const page = useJobLogs(job.id, { limit: LINES }, isActive(job) ? { everyMs: 1_000 } : {});
  const lines = page.data?.lines ?? NONE;
  return (
    <Panel
      title="Lines"
      hint={page.data?.before === null || page.data === undefined ? "" : `the last ${formatCount(LINES)}`}
      actions={
        <>
          <Button icon={follow ? "pause" : "live"} aria-pressed={follow} onClick={() => setFollow(!follow)}>
            {follow ? "Following" : "Paused"}
          </Button>
          <Button
            icon="download"
            disabled={lines.length === 0}
            onClick={() =>
              downloadText(fileName(`job-${job.name}`, new Date(), "jsonl"), toJsonLines(lines), "application/x-ndjson")
            }
          >
            Export
          </Button>
        </>
      }
      flush
    >
      {page.isPending ? (
        <Loading label="Loading lines" rows={8} />
      ) : page.isError && page.data === undefined ? (
        <ErrorState title="Its lines could not be read" error={page.error} onRetry={page.refetch} />
      ) : (
        <LogList
          label={`Lines of ${job.name}`}
          lines={lines}
          follow={follow}
          onFollow={setFollow}
          empty={
            <EmptyState icon="logs" title="It has not said anything yet">
              What its processes print comes here, line by line.
            </EmptyState>
          }
        />
      )}
    </Panel>
  );
}
