// One task's story: when it was accepted, began and ended, where, what it printed, and why it failed.
import type { FunctionTask } from "~/api/types";
import { Banner } from "~/components/Banner";
import { Drawer, Fact, Facts } from "~/components/Drawer";
import { ErrorState, Loading } from "~/components/EmptyState";
import { Section } from "~/components/listing/Section";
import { Badge } from "~/components/StateBadge";
import { Age } from "~/components/time/Age";
import { useNow } from "~/data/clock";
import { useFunctionTask } from "~/data/queries";
import { formatCount, formatDuration } from "~/format/format";
import { Value } from "~/format/Value";
import { ranS, taskLook, waitedS } from "./tasks";

export function TaskDrawer({ id, onClose }: { id: string; onClose: () => void }) {
  const asked = useFunctionTask(id, { everyMs: 1_000 });
  // The story of another task stays in sight until this one's is there: it must not stand under this title.
  const task = asked.data?.task_id === id ? asked.data : undefined;
  const look = task === undefined ? null : taskLook(task.status);
  return (
    <Drawer
      title={<span className="font-mono text-sm">{id}</span>}
      badge={look === null ? null : <Badge icon={look.icon} tone={look.tone} word={look.word} />}
      onClose={onClose}
      resetKey={id}
    >
      {task !== undefined ? (
        <Story task={task} />
      ) : asked.isError ? (
        <ErrorState title="This task could not be read" error={asked.error} onRetry={asked.refetch} />
      ) : (
        <Loading label="Loading the task" />
      )}
    </Drawer>
  );
}

function Story({ task }: { task: FunctionTask }) {
  const now = useNow();
  return (
    <div className="flex flex-col gap-5">
      {task.error_type === "" ? null : (
        <Banner tone="danger" announce={false}>
          <strong>{task.error_type}</strong>
          {task.error_message === "" ? "" : `: ${task.error_message}`}
        </Banner>
      )}
      {task.cause === "" ? null : (
        <Banner tone="info" announce={false}>
          {task.cause}
        </Banner>
      )}
      <Section title="When and where">
        <Facts>
          <Fact name="Accepted">
            <Age at={task.submitted_at} />
          </Fact>
          <Fact name="Waited">
            <Value of={waitedS(task)} format={formatDuration} unknown="it has not begun" />
          </Fact>
          <Fact name="Began">
            <Age at={task.started_at} unknown="it has not begun" />
          </Fact>
          <Fact name={task.ended_at === null && task.status === "RUNNING" ? "Has run for" : "Ran"}>
            <Value of={ranS(task, now)} format={formatDuration} unknown="it has not run, or its end was not told" />
          </Fact>
          <Fact name="Ended">
            <Age at={task.ended_at} unknown="it has not ended" />
          </Fact>
          <Fact name="Attempt">{formatCount(task.attempt)}</Fact>
          <Fact name="Worker">
            {task.worker === "" ? <span className="text-ink-3">none has it</span> : task.worker}
          </Fact>
        </Facts>
      </Section>
      <Output title="Traceback" text={task.traceback} />
      <Output title="What it printed" text={task.stdout} />
      <Output title="What it wrote to its error output" text={task.stderr} />
    </div>
  );
}

function Output({ title, text }: { title: string; text: string }) {
  if (text === "") return null;
  return (
    <Section title={title}>
      <section
        aria-label={title}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
        tabIndex={0}
        className="max-h-80 overflow-auto rounded-md border border-line bg-sunken p-2.5 font-mono text-xs whitespace-pre text-ink"
      >
        {text}
      </section>
    </Section>
  );
}
