// The tasks that the dispatcher still knows, page by page in the order of their acceptance, and a way to one by its id.
import { type FormEvent, useState } from "react";
import type { FunctionTask } from "~/api/types";
import { Button } from "~/components/Button";
import { ErrorState, Loading } from "~/components/EmptyState";
import { FilterBar, Segments } from "~/components/filters/Filters";
import { setQuery, useQueryChoice, useQueryParam } from "~/components/filters/query";
import { Icon } from "~/components/Icon";
import { listHeight } from "~/components/listing/listing";
import { Panel } from "~/components/Panel";
import { Badge } from "~/components/StateBadge";
import { DataTable } from "~/components/table/DataTable";
import type { Column } from "~/components/table/order";
import { Age } from "~/components/time/Age";
import { useNow } from "~/data/clock";
import { useFunctionTasks } from "~/data/queries";
import { formatCount, formatDuration, formatPlural } from "~/format/format";
import { Value } from "~/format/Value";
import { isTaskId, ranS, TASK_STATES, taskLook, waitedS } from "./tasks";

const PAGE = 100;
const STATE_CHOICES = ["all", ...TASK_STATES] as const;

function Ran({ task }: { task: FunctionTask }) {
  return <Value of={ranS(task, useNow())} format={formatDuration} unknown="it has not run, or its end was not told" />;
}

const COLUMNS: readonly Column<FunctionTask>[] = [
  {
    id: "id",
    header: "Task",
    width: "19rem",
    cell: (row) => <span className="font-mono text-xs text-ink">{row.task_id}</span>,
  },
  {
    id: "status",
    header: "State",
    width: "7.5rem",
    cell: (row) => {
      const { icon, tone, word } = taskLook(row.status);
      return <Badge plain icon={icon} tone={tone} word={word} />;
    },
  },
  {
    id: "submitted",
    header: "Accepted",
    width: "7rem",
    align: "end",
    cell: (row) => <Age at={row.submitted_at} />,
  },
  {
    id: "waited",
    header: "Waited",
    title: "From its acceptance until it began",
    width: "5.5rem",
    align: "end",
    cell: (row) => <Value of={waitedS(row)} format={formatDuration} unknown="it has not begun" />,
  },
  { id: "ran", header: "Ran", width: "5.5rem", align: "end", cell: (row) => <Ran task={row} /> },
  {
    id: "attempt",
    header: "Attempt",
    width: "4.5rem",
    align: "end",
    cell: (row) => formatCount(row.attempt),
  },
  {
    id: "worker",
    header: "Worker",
    width: "minmax(7rem, 10rem)",
    cell: (row) => (row.worker === "" ? <span className="text-ink-3">none</span> : row.worker),
  },
  {
    id: "error",
    header: "Error",
    width: "minmax(10rem, 1fr)",
    cell: (row) =>
      row.error_type === "" ? null : (
        <span className="text-danger" title={row.error_message}>
          {row.error_type}: {row.error_message}
        </span>
      ),
  },
];

interface TasksProps {
  openId: string | null;
  onOpen: (id: string) => void;
}

export function Tasks({ openId, onOpen }: TasksProps) {
  const [state, setState] = useQueryChoice("state", STATE_CHOICES);
  const [after] = useQueryParam("after");
  const query = {
    limit: PAGE,
    ...(isTaskId(after) ? { after } : {}),
    ...(state === "all" ? {} : { state }),
  };
  const page = useFunctionTasks(query, { everyMs: 2_000 });
  const tasks = page.data?.tasks ?? [];
  const next = page.data?.next ?? null;
  return (
    <>
      <FilterBar status={page.data === undefined ? "" : `${formatPlural(tasks.length, "task")} on this page`}>
        <Find onOpen={onOpen} />
        <Segments
          label="State"
          options={STATE_CHOICES.map((value) => ({
            value,
            label: value === "all" ? "All" : taskLook(value).word,
          }))}
          value={state}
          onChange={(value) => {
            setQuery({ after: "" });
            setState(value);
          }}
        />
        <Button icon="chevron-left" disabled={after === ""} onClick={() => setQuery({ after: "" }, { replace: false })}>
          First page
        </Button>
        <Button
          icon="chevron-right"
          disabled={next === null}
          onClick={() => setQuery({ after: next ?? "" }, { replace: false })}
        >
          Next page
        </Button>
      </FilterBar>
      <Panel title="Tasks" hint="oldest first; those that the dispatcher still knows" flush>
        {page.isPending ? (
          <Loading label="Loading tasks" rows={6} />
        ) : page.isError && page.data === undefined ? (
          <ErrorState title="The tasks could not be read" error={page.error} onRetry={page.refetch} />
        ) : (
          <DataTable
            label="Tasks"
            rows={tasks}
            columns={COLUMNS}
            rowKey={(row) => row.task_id}
            onOpen={(row) => onOpen(row.task_id)}
            openKey={openId}
            height={listHeight(tasks.length, 12)}
            empty={
              <p className="px-4 py-10 text-center text-ink-2">
                {state === "all"
                  ? "No task is known: submit one from a client, or over the functions API."
                  : "No task is in this state now."}
              </p>
            }
          />
        )}
      </Panel>
    </>
  );
}

/** A task's id, as a client has it; Enter opens its story. */
function Find({ onOpen }: { onOpen: (id: string) => void }) {
  const [text, setText] = useState("");
  const [wrong, setWrong] = useState(false);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    const fits = isTaskId(text);
    setWrong(!fits);
    if (fits) onOpen(text.trim());
  };
  return (
    <form className="relative flex min-w-52 max-w-96 flex-1 items-center gap-2" onSubmit={submit}>
      <Icon name="search" size={14} className="pointer-events-none absolute left-2 text-ink-3" />
      <input
        data-search=""
        aria-label="Open a task by its id"
        aria-invalid={wrong}
        aria-describedby={wrong ? "task-id-wrong" : undefined}
        placeholder="Open a task by its id"
        autoComplete="off"
        spellCheck={false}
        value={text}
        onChange={(event) => {
          setText(event.target.value);
          setWrong(false);
        }}
        className="h-7 w-full rounded-md border border-line-strong bg-surface pr-2 pl-7 text-sm text-ink placeholder:text-ink-3 aria-invalid:border-danger"
      />
      {wrong ? (
        <span id="task-id-wrong" role="alert" className="text-xs whitespace-nowrap text-danger">
          Not a UUID
        </span>
      ) : null}
    </form>
  );
}
