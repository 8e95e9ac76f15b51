// A short list of events, newest first, for a drawer; each leads to its place in the event log.
import { Link } from "wouter";
import type { Event } from "~/api/types";
import { Icon } from "~/components/Icon";
import { Age } from "~/components/time/Age";
import { TEXT } from "~/components/tone";
import { activityHref, kindLook, LEVEL_TONES } from "./kinds";

export function EventList({ events }: { events: readonly Event[] }) {
  return (
    <ol className="flex flex-col gap-2 text-sm">
      {events.map((event) => (
        <li key={`${event.origin}-${event.number}`} className="flex items-start gap-2">
          <Icon name={kindLook(event.kind).icon} size={14} className={`mt-0.5 ${TEXT[LEVEL_TONES[event.level]]}`} />
          <span className="min-w-0 flex-1 break-words">{event.text}</span>
          <Link
            href={activityHref(event.at)}
            className="text-xs text-ink-3 underline decoration-line-strong underline-offset-2 hover:text-accent"
          >
            <Age at={event.at} />
          </Link>
        </li>
      ))}
    </ol>
  );
}
