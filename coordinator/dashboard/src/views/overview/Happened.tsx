// What just happened: the newest events, those that repeat themselves in one line.
import { useMemo } from "react";
import { Link } from "wouter";
import { kindLook } from "~/components/events/kinds";
import { Icon } from "~/components/Icon";
import { Panel } from "~/components/Panel";
import { Age } from "~/components/time/Age";
import { TEXT } from "~/components/tone";
import { useSlice } from "~/data/context";
import { formatCount } from "~/format/format";
import { type Happening, happenings } from "./happenings";

const SHOWN = 10;

export function Happened() {
  const events = useSlice("events");
  const rows = useMemo(() => happenings(events ?? [], SHOWN), [events]);
  return (
    <Panel
      title="What just happened"
      actions={
        <Link href="/activity" className="text-xs text-ink-2 underline-offset-2 hover:text-ink hover:underline">
          All activity
        </Link>
      }
    >
      {rows.length === 0 ? (
        <p className="text-sm text-ink-2">Nothing has happened since this page was fed first.</p>
      ) : (
        <ol className="flex flex-col">
          {rows.map((row) => (
            <HappeningRow key={row.id} row={row} />
          ))}
        </ol>
      )}
    </Panel>
  );
}

function HappeningRow({ row }: { row: Happening }) {
  const look = kindLook(row.kind);
  return (
    <li className="-mx-2 grid grid-cols-[auto_1fr_auto] items-baseline gap-x-2.5 rounded px-2 py-1 text-sm hover:bg-hover">
      <Icon name={look.icon} size={14} className={`translate-y-0.5 ${TEXT[row.tone]}`} />
      <span className="line-clamp-2 min-w-0 break-words" title={row.text}>
        {row.count === 1 ? (
          row.text
        ) : (
          <>
            <span className="font-medium">
              {look.word}, {formatCount(row.count)} times
            </span>
            <span className="text-ink-2">; the last: {row.text}</span>
          </>
        )}
      </span>
      <Link
        href={row.href}
        className="text-right text-xs text-ink-3 underline decoration-line-strong underline-offset-2 hover:text-accent"
      >
        <Age at={row.at} />
        <span className="sr-only">, see it in the activity log</span>
      </Link>
    </li>
  );
}
