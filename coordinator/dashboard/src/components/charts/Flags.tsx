// The flags above a chart: links to what happened at a moment. One tab stop; the arrows go from flag to flag.
import { type KeyboardEvent, useRef } from "react";
import { Link } from "wouter";
import { Icon } from "~/components/Icon";
import { SOFT } from "~/components/tone";
import { formatClock } from "~/format/format";
import { placeFlags, type TimeSeriesMark } from "./flags";

export const FLAG_PX = 16;
const GAP_PX = 3;

interface FlagsProps {
  /** What the flags belong to, for a screen reader. */
  label: string;
  marks: readonly TimeSeriesMark[];
  /** The axis, Unix seconds. */
  from: number;
  to: number;
  /** The axis in CSS pixels, from the left of the box. */
  left: number;
  width: number;
  /** The link of a flag that stands for several marks. */
  hrefOf: (from: number, to: number) => string;
}

export function Flags({ label, marks, from, to, left, width, hrefOf }: FlagsProps) {
  const list = useRef<HTMLUListElement>(null);
  const flags = width <= 0 ? [] : placeFlags(marks, from, to, (FLAG_PX + GAP_PX) / width);
  if (flags.length === 0) return null;
  const onKey = (event: KeyboardEvent) => {
    const links = [...(list.current?.querySelectorAll("a") ?? [])];
    const at = links.indexOf(document.activeElement as HTMLAnchorElement);
    const target = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: links.length - 1 }[event.key];
    if (at < 0 || target === undefined) return;
    event.preventDefault();
    links[Math.max(0, Math.min(links.length - 1, target))]?.focus();
  };
  return (
    <ul ref={list} aria-label={`Events in ${label}`} className="absolute inset-x-0 top-0 h-4" onKeyDown={onKey}>
      {flags.map((flag, index) => {
        const [first] = flag.marks;
        const several = flag.marks.length > 1;
        const text = several
          ? `${flag.marks.length} events from ${flag.marks.map((mark) => mark.label).join("; ")}`
          : first?.label;
        return (
          <li key={flag.from} className="absolute top-0" style={{ left: left + flag.place * width - FLAG_PX / 2 }}>
            <Link
              href={several ? hrefOf(flag.from, flag.to) : (first?.href ?? hrefOf(flag.from, flag.to))}
              title={`${formatClock(flag.from * 1000)} ${text}`}
              aria-label={`${formatClock(flag.from * 1000)}: ${text}`}
              tabIndex={index === flags.length - 1 ? 0 : -1}
              className={`flex size-4 items-center justify-center rounded-sm hover:ring-1 hover:ring-current ${SOFT[flag.tone]}`}
            >
              {several ? (
                <span className="text-2xs font-semibold">{flag.marks.length}</span>
              ) : (
                <Icon name={flag.icon} size={11} />
              )}
            </Link>
          </li>
        );
      })}
    </ul>
  );
}
