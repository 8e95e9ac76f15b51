// One worker in full: what it does, what it uses, where its time goes, what it owns, and its story.
import { Link } from "wouter";
import type { Hang, Worker, WorkerStory } from "~/api/types";
import { Banner } from "~/components/Banner";
import { ShareBar } from "~/components/charts/Bars";
import { Drawer, Fact, Facts } from "~/components/Drawer";
import { EmptyState, ErrorState, Loading } from "~/components/EmptyState";
import { EventList } from "~/components/events/EventList";
import { RowLink, WorkerLinks } from "~/components/listing/Links";
import { Section } from "~/components/listing/Section";
import { CodeBlock } from "~/components/logs/CodeBlock";
import { LogLines } from "~/components/logs/LogLines";
import { Badge, StateBadge } from "~/components/StateBadge";
import { Age } from "~/components/time/Age";
import { ApiError } from "~/data/client";
import { useRow, useSlice } from "~/data/context";
import { useWorkerStory } from "~/data/queries";
import { formatCount, formatMoment, formatPlural } from "~/format/format";
import { Value } from "~/format/Value";
import { Minutes } from "./Minutes";
import { Resources } from "./Resources";
import { wholeShares } from "./workers";

/** How often the story is asked for while it is open; the row itself is live. */
const STORY_EVERY_MS = 3_000;
const EVENTS_SHOWN = 20;
const LINES_SHOWN = 50;

export function WorkerDrawer({ id, onClose }: { id: string; onClose: () => void }) {
  const row = useRow("workers", id);
  const hangs = useSlice("hangs");
  const story = useWorkerStory(id, { everyMs: STORY_EVERY_MS });
  // The answer about the worker before this one stays until the new one has come.
  const told = story.isPlaceholderData ? undefined : story.data;
  const worker = row ?? told?.worker;
  if (worker === undefined) {
    return (
      <Drawer title={id} onClose={onClose} resetKey={id}>
        <Missing id={id} error={story.error} onRetry={() => story.refetch()} />
      </Drawer>
    );
  }
  return (
    <Drawer
      title={id}
      badge={
        <>
          <StateBadge state={worker.state} />
          {worker.hanging ? <Badge icon="hourglass" tone="danger" word="Hangs" /> : null}
        </>
      }
      onClose={onClose}
      resetKey={id}
    >
      <div className="flex flex-col gap-5">
        <Trouble worker={worker} hang={hangs?.find((hang) => hang.worker_id === id)} />
        <WorkerFacts worker={worker} />
        <Time worker={worker} />
        <Section title="What it uses">
          <Resources worker={worker} />
        </Section>
        {told === undefined ? (
          story.error === null ? (
            <Loading label={`Loading the story of ${id}`} />
          ) : (
            <ErrorState title="Its story cannot be read" error={story.error} onRetry={() => story.refetch()} />
          )
        ) : (
          <Story id={id} story={told} />
        )}
        <Labels worker={worker} />
      </div>
    </Drawer>
  );
}

function Missing({ id, error, onRetry }: { id: string; error: Error | null; onRetry: () => void }) {
  if (error === null) return <Loading label={`Loading ${id}`} />;
  if (error instanceof ApiError && error.status === 404) {
    return (
      <EmptyState icon="question" title="There is no such worker">
        {error.message} A worker that has left is told of in the{" "}
        <Link href="/activity" className="text-accent underline underline-offset-2">
          activity log
        </Link>
        .
      </EmptyState>
    );
  }
  return <ErrorState title="The worker cannot be read" error={error} onRetry={onRetry} />;
}

function Trouble({ worker, hang }: { worker: Worker; hang: Hang | undefined }) {
  return (
    <>
      {worker.lost_reason === "" ? null : (
        <Banner tone="danger" announce={false}>
          Given up: {worker.lost_reason}. The figures below are its last.
        </Banner>
      )}
      {hang === undefined ? null : (
        <Banner tone="danger" announce={false}>
          Has not moved since <Age at={hang.since} />, and{" "}
          {formatPlural(hang.waiter_count, "worker waits", "workers wait")} for it at {hang.where}:{" "}
          <WorkerLinks ids={hang.waiters} total={hang.waiter_count} />. Its stacks are below.
        </Banner>
      )}
    </>
  );
}

function WorkerFacts({ worker }: { worker: Worker }) {
  return (
    <Facts>
      <Fact name="Rank">
        <Value of={worker.rank} format={formatCount} unknown="it is not in this generation" />
      </Fact>
      <Fact name="Progress">
        step {formatCount(worker.current_step)}, epoch {formatCount(worker.current_epoch)}; moved{" "}
        <Age at={worker.moved_at} />
      </Fact>
      <Fact name="Task">
        <Value of={worker.current_task} format={String} unknown="it has none, or does not tell" />
      </Fact>
      <Fact name="Heard">
        <Age at={worker.last_heartbeat} />
        {worker.lease_ends_at === null ? "" : `, its lease runs to ${formatMoment(worker.lease_ends_at).slice(11)}`}
      </Fact>
      <Fact name="Process">
        {worker.ip === "" ? "unknown host" : worker.ip}, pid {worker.pid}
        {worker.port > 0 ? `, port ${worker.port}` : ""}
      </Fact>
      <Fact name="Joined">
        <Age at={worker.registered_at} unknown="this coordinator has not seen it join" />
      </Fact>
      <Fact name="Incarnation">
        <span className="font-mono text-xs">{worker.incarnation}</span>
      </Fact>
      <Fact name="Last at barriers">{formatPlural(worker.last_at_barriers, "time")} since the coordinator began</Fact>
    </Facts>
  );
}

function Time({ worker }: { worker: Worker }) {
  const shares = wholeShares(worker);
  return (
    <Section title="Where its time goes">
      <div className="flex flex-col gap-3">
        {shares.length === 0 ? (
          <p className="text-sm text-ink-2">
            {worker.lost_reason === ""
              ? "Not measured: this worker does not report where its time goes."
              : "Not measured: it is lost and tells nothing."}
          </p>
        ) : (
          <ShareBar label="Shares of its last minute" shares={shares} />
        )}
        <Minutes id={worker.id} />
      </div>
    </Section>
  );
}

function Story({ id, story }: { id: string; story: WorkerStory }) {
  const shards = Object.entries(story.shards);
  const events = [...story.events].reverse().slice(0, EVENTS_SHOWN);
  return (
    <>
      {story.stacks === "" ? null : (
        <Section title="Its threads">
          <p className="mb-1.5 text-xs text-ink-3">
            as it told <Age at={story.stacks_at} />
          </p>
          <CodeBlock label={`the stacks of ${id}`} text={story.stacks} maxHeight="16rem" />
        </Section>
      )}
      <Section title="Shards">
        {shards.length === 0 ? (
          <p className="text-sm text-ink-2">It owns none now.</p>
        ) : (
          <Facts>
            {shards.map(([dataset, count]) => (
              <Fact key={dataset} name={dataset}>
                <RowLink href={`/data/${encodeURIComponent(dataset)}`}>{formatPlural(count, "shard")}</RowLink>
              </Fact>
            ))}
          </Facts>
        )}
      </Section>
      <Section title="What happened to it">
        {events.length === 0 ? (
          <p className="text-sm text-ink-2">Nothing that is still remembered.</p>
        ) : (
          <EventList events={events} />
        )}
      </Section>
      <Section title="Its last lines">
        <div className="flex flex-col overflow-hidden rounded-md border border-line">
          <LogLines
            label={`Lines of ${id}`}
            lines={story.logs.slice(-LINES_SHOWN)}
            height="12rem"
            empty={
              <p className="px-4 py-8 text-center font-sans text-sm text-ink-2">
                No line of it is known here: its process writes elsewhere, or nothing yet.
              </p>
            }
          />
        </div>
        <p className="mt-1.5 text-xs">
          <Link
            href={`/logs?source=${encodeURIComponent(id)}`}
            className="text-accent underline decoration-line-strong underline-offset-2 hover:decoration-current"
          >
            All lines of {id}
          </Link>
        </p>
      </Section>
    </>
  );
}

function Labels({ worker }: { worker: Worker }) {
  const labels = Object.entries(worker.metadata);
  if (labels.length === 0) return null;
  return (
    <Section title="Labels">
      <Facts>
        {labels.map(([name, value]) => (
          <Fact key={name} name={name}>
            {value}
          </Fact>
        ))}
      </Facts>
    </Section>
  );
}
