// One checkpoint in full: its phases, who is awaited, where it is, and the button that reads it again.
import { useMemo } from "react";
import type { Checkpoint, Event } from "~/api/types";
import { Banner } from "~/components/Banner";
import { Button } from "~/components/Button";
import { BarList } from "~/components/charts/Bars";
import { Drawer, Fact, Facts } from "~/components/Drawer";
import { EmptyState } from "~/components/EmptyState";
import { EventList } from "~/components/events/EventList";
import { WorkerLink, WorkerLinks } from "~/components/listing/Links";
import { Section } from "~/components/listing/Section";
import { Badge } from "~/components/StateBadge";
import { Age } from "~/components/time/Age";
import { useRow, useSlice } from "~/data/context";
import { useVerifyCheckpoint } from "~/data/queries";
import { formatBytes, formatCount, formatDuration, formatPercent } from "~/format/format";
import { Value } from "~/format/Value";
import { newShare, phaseParts, STATUS, verifiedLook } from "./checkpoints";

export function CheckpointDrawer({ id, onClose }: { id: string; onClose: () => void }) {
  const checkpoint = useRow("checkpoints", id);
  if (checkpoint === undefined) {
    return (
      <Drawer title={id} onClose={onClose}>
        <EmptyState icon="question" title="There is no such checkpoint">
          It was given up, removed by the store's rule of what is kept, or belongs to another job.
        </EmptyState>
      </Drawer>
    );
  }
  const look = STATUS[checkpoint.status];
  return (
    <Drawer
      title={`Checkpoint of step ${formatCount(checkpoint.step)}`}
      badge={<Badge icon={look.icon} tone={look.tone} word={look.word} title={look.meaning} />}
      onClose={onClose}
      resetKey={id}
    >
      <div className="flex flex-col gap-5">
        {checkpoint.reason === "" ? null : (
          <Banner tone="warn" announce={false}>
            {checkpoint.reason}
          </Banner>
        )}
        <Awaited checkpoint={checkpoint} />
        <Phases checkpoint={checkpoint} />
        {checkpoint.status === "durable" ? <Verification key={id} checkpoint={checkpoint} /> : null}
        <Section title="What it is">
          <CheckpointFacts checkpoint={checkpoint} />
        </Section>
        <Story id={id} />
      </div>
    </Drawer>
  );
}

function Awaited({ checkpoint }: { checkpoint: Checkpoint }) {
  const awaited = checkpoint.world_size - checkpoint.arrived;
  if (awaited <= 0) return null;
  const verb = checkpoint.status === "writing" ? "Awaited" : "Never arrived";
  return (
    <Section title={`${verb}: ${formatCount(awaited)} of ${formatCount(checkpoint.world_size)} ranks`}>
      {checkpoint.missing.length === 0 ? (
        <p className="text-sm text-ink-2">The coordinator has not named them.</p>
      ) : (
        <p className="text-sm">
          <WorkerLinks ids={checkpoint.missing} total={awaited} most={20} />
        </p>
      )}
    </Section>
  );
}

function Phases({ checkpoint }: { checkpoint: Checkpoint }) {
  const parts = phaseParts(checkpoint);
  return (
    <Section title="Where its time went">
      {parts.length === 0 ? (
        <p className="text-sm text-ink-2">Not measured: this coordinator has not seen the checkpoint begin and end.</p>
      ) : (
        <>
          <BarList
            label="Time in each phase"
            bars={parts.map((part) => ({
              id: part.id,
              label: <span title={part.meaning}>{part.label}</span>,
              value: part.seconds,
              text: formatDuration(part.seconds),
              token: part.token,
            }))}
          />
          <p className="mt-2 text-xs text-ink-3">
            Stage: until all ranks had staged. Drain: until all bytes were durable. Commit: until HEAD reached it. In
            all <Value of={checkpoint.phases.total_s} format={formatDuration} unknown="it has not ended" />.
          </p>
        </>
      )}
    </Section>
  );
}

function Verification({ checkpoint }: { checkpoint: Checkpoint }) {
  const verify = useVerifyCheckpoint();
  const look = verifiedLook(checkpoint);
  return (
    <Section title="Verification">
      <div className="flex flex-wrap items-center gap-3 text-sm">
        <Badge icon={look.icon} tone={look.tone} word={look.word} />
        {checkpoint.verified === null ? null : <Age at={checkpoint.verified_at} />}
        <span className="ml-auto">
          <Button
            icon={verify.isPending ? "hourglass" : "shield"}
            disabled={verify.isPending}
            onClick={() => verify.mutate(checkpoint.id)}
          >
            {verify.isPending ? "Reading every byte…" : checkpoint.verified === null ? "Verify now" : "Verify again"}
          </Button>
        </span>
      </div>
      <p className="mt-1.5 text-xs text-ink-3">{look.meaning} Verifying reads the whole checkpoint from its store.</p>
      {verify.isError ? (
        <div className="mt-2">
          <Banner tone="danger">{verify.error.message}</Banner>
        </div>
      ) : null}
      {verify.isSuccess && verify.data.verified === false ? (
        <div className="mt-2">
          <Banner tone="danger">A checksum does not agree. Restore an older checkpoint, and look at the store.</Banner>
        </div>
      ) : null}
    </Section>
  );
}

function CheckpointFacts({ checkpoint }: { checkpoint: Checkpoint }) {
  const share = newShare(checkpoint);
  return (
    <Facts>
      <Fact name="Id">
        <span className="font-mono text-xs">{checkpoint.id}</span>
      </Fact>
      <Fact name="Place">
        {checkpoint.path === "" ? (
          <Value of={null} format={String} unknown="the API was started without a store" />
        ) : (
          <span className="font-mono text-xs">{checkpoint.path}</span>
        )}
      </Fact>
      <Fact name="Epoch">{formatCount(checkpoint.epoch)}</Fact>
      <Fact name="Kind">{checkpoint.kind.toLowerCase()}</Fact>
      <Fact name="Tier">
        <Value of={checkpoint.tier} format={String} unknown="the API was started without a store" />
      </Fact>
      <Fact name="Size">
        <Value of={checkpoint.size === 0 ? null : checkpoint.size} format={formatBytes} unknown="not told yet" />
      </Fact>
      <Fact name="New in it">
        <Value of={checkpoint.written_bytes} format={formatBytes} unknown="not told yet" />
        {share === null ? "" : ` (${formatPercent(share)})`}
      </Fact>
      <Fact name="Rate">
        <Value of={checkpoint.megabytes_per_s} format={(rate) => `${formatBytes(rate * 1e6)}/s`} />
      </Fact>
      <Fact name="Begun">
        <Age at={checkpoint.created_at} />
      </Fact>
      <Fact name="Durable">
        <Age
          at={checkpoint.durable_at}
          unknown={checkpoint.status === "durable" ? "this coordinator has not seen it" : "it is not durable"}
        />
      </Fact>
      <Fact name="Rank 0">
        {checkpoint.worker_id === "" ? (
          <Value of={null} format={String} unknown="who was rank 0 then" />
        ) : (
          <WorkerLink id={checkpoint.worker_id} />
        )}
      </Fact>
      {Object.entries(checkpoint.metrics).map(([name, value]) => (
        <Fact key={name} name={name}>
          {value}
        </Fact>
      ))}
    </Facts>
  );
}

const NONE: readonly Event[] = [];

function Story({ id }: { id: string }) {
  const events = useSlice("events") ?? NONE;
  const own = useMemo(() => events.filter((event) => event.subject === id).reverse(), [events, id]);
  if (own.length === 0) return null;
  return (
    <Section title="What happened to it">
      <EventList events={own} />
    </Section>
  );
}
