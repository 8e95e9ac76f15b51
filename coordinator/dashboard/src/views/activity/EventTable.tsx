// The table of events: a press on one marks its moment in the charts and puts it into the address.
import { useEffect, useRef } from "react";
import type { Event } from "~/api/types";
import { eventHref, kindLook, LEVEL_TONES } from "~/components/events/kinds";
import { setQuery } from "~/components/filters/query";
import { Icon } from "~/components/Icon";
import { RowLink, WorkerLink } from "~/components/listing/Links";
import { DataTable } from "~/components/table/DataTable";
import type { Column } from "~/components/table/order";
import { Age } from "~/components/time/Age";
import { TEXT } from "~/components/tone";
import { formatClock, formatMoment } from "~/format/format";
import { eventKey } from "./events";

const LEVEL_WORDS: Record<Event["level"], string> = {
  debug: "debug",
  info: "info",
  warning: "warning",
  error: "error",
};

const COLUMNS: readonly Column<Event>[] = [
  {
    id: "at",
    header: "Time",
    width: "5.5rem",
    align: "end",
    cell: (row) => (
      <time
        dateTime={new Date(row.at).toISOString()}
        title={formatMoment(row.at)}
        className="font-mono text-xs text-ink-2"
      >
        {formatClock(row.at)}
      </time>
    ),
  },
  {
    id: "age",
    header: "Age",
    width: "7rem",
    align: "end",
    cell: (row) => (
      <span className="text-ink-3">
        <Age at={row.at} />
      </span>
    ),
  },
  {
    id: "kind",
    header: "What",
    width: "12rem",
    cell: (row) => {
      const { icon, word } = kindLook(row.kind);
      return (
        <span className={`flex items-center gap-1.5 text-xs font-medium ${TEXT[LEVEL_TONES[row.level]]}`}>
          <Icon name={icon} size={13} />
          <span className="truncate">{word}</span>
          {row.level === "info" ? null : <span className="sr-only">({LEVEL_WORDS[row.level]})</span>}
        </span>
      );
    },
  },
  {
    id: "text",
    header: "Why",
    width: "minmax(18rem, 1fr)",
    cell: (row) => (
      <span className="text-ink" title={row.text}>
        {row.text}
      </span>
    ),
  },
  {
    id: "subject",
    header: "Of",
    width: "11rem",
    cell: (row) => <Subject event={row} />,
  },
  {
    id: "origin",
    header: "Told by",
    width: "6.5rem",
    cell: (row) => <span className="text-xs text-ink-3">{row.origin}</span>,
  },
];

function Subject({ event }: { event: Event }) {
  const href = eventHref(event);
  const name = event.subject === "" ? event.worker_id : event.subject;
  if (name === "") return <span className="text-ink-3">the job</span>;
  if (name === event.worker_id) return <WorkerLink id={name} />;
  if (href === null) return name;
  return (
    <RowLink href={href} title={name}>
      {name}
    </RowLink>
  );
}

interface EventTableProps {
  events: readonly Event[];
  /** The place of the event that the address points at; -1 of none. */
  chosen: number;
}

const ROW_PX = 30;

export function EventTable({ events, chosen }: EventTableProps) {
  const box = useRef<HTMLDivElement>(null);
  const row = events[chosen];
  const key = row === undefined ? null : eventKey(row);
  const place = useRef(chosen);
  place.current = chosen;
  // The chosen one comes into sight when it is chosen; later events do not move it again.
  useEffect(() => {
    const grid = box.current?.querySelector<HTMLElement>('[role="grid"]');
    if (key === null || grid === null || grid === undefined) return;
    const top = place.current * ROW_PX;
    if (top < grid.scrollTop || top > grid.scrollTop + grid.clientHeight - 3 * ROW_PX) {
      grid.scrollTo({ top: Math.max(0, top - grid.clientHeight / 2) });
    }
  }, [key]);
  return (
    <div ref={box} className="flex min-h-0 flex-1 flex-col">
      <DataTable
        label="Events, newest first"
        rows={events}
        columns={COLUMNS}
        rowKey={eventKey}
        openKey={key}
        onOpen={(event) => setQuery({ at: String(event.at) }, { replace: false })}
        empty={<p className="px-4 py-10 text-center text-ink-2">No event passes the filters. Take one of them away.</p>}
      />
    </div>
  );
}
