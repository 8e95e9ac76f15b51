// The job's health in one line: a few verdicts by icon, word and colour, and the workers by state as one bar.
import type { ReactNode } from "react";
import { Link } from "wouter";
import { formatCount, formatPlural } from "~/format/format";
import { Icon, type IconName } from "./Icon";
import { stateLook, WORKER_STATES } from "./StateBadge";
import { FILL, SOFT, TEXT, TONE_ICON, type Tone } from "./tone";

export interface HealthItem {
  id: string;
  label: string;
  /** The verdict in words: "12 of 12 training". */
  value: ReactNode;
  tone: Tone;
  icon?: IconName;
  detail?: ReactNode;
  href?: string;
}

export function HealthStrip({ items }: { items: readonly HealthItem[] }) {
  return (
    <ul
      aria-label="Health"
      className="grid grid-cols-[repeat(auto-fit,minmax(12rem,1fr))] gap-px overflow-hidden rounded-lg border border-line bg-line"
    >
      {items.map((item) => (
        <li key={item.id} className="relative flex items-center gap-3 bg-surface px-3.5 py-3">
          <span className={`flex size-8 shrink-0 items-center justify-center rounded-md ${SOFT[item.tone]}`}>
            <Icon name={item.icon ?? TONE_ICON[item.tone]} size={17} />
          </span>
          <span className="flex min-w-0 flex-col">
            <span className="text-xs text-ink-3">
              {item.href === undefined ? (
                item.label
              ) : (
                <Link href={item.href} className="after:absolute after:inset-0 hover:text-ink">
                  {item.label}
                </Link>
              )}
            </span>
            <span className="truncate text-base font-semibold text-ink">{item.value}</span>
            {item.detail === undefined ? null : (
              <span
                className="line-clamp-2 text-xs break-words text-ink-3"
                title={typeof item.detail === "string" ? item.detail : undefined}
              >
                {item.detail}
              </span>
            )}
          </span>
        </li>
      ))}
    </ul>
  );
}

/** Counts by worker state as one bar, with the words below it. */
export function WorkerStateBar({ counts }: { counts: Readonly<Record<string, number>> }) {
  const states = [...WORKER_STATES, ...Object.keys(counts).filter((state) => !isListed(state))]
    .map((state) => ({ state, look: stateLook(state), count: counts[state] ?? 0 }))
    .filter(({ count }) => count > 0);
  const total = states.reduce((sum, { count }) => sum + count, 0);
  if (total === 0) return <p className="text-sm text-ink-2">No worker has joined yet.</p>;
  return (
    <div className="flex flex-col gap-2">
      <div aria-hidden="true" className="flex h-2.5 gap-px overflow-hidden rounded-full">
        {states.map(({ state, look, count }) => (
          <span key={state} className={FILL[look.tone]} style={{ flexGrow: count, minWidth: 3 }} />
        ))}
      </div>
      <ul aria-label={`${formatPlural(total, "worker")} by state`} className="flex flex-wrap gap-x-4 gap-y-1">
        {states.map(({ state, look, count }) => (
          <li key={state} className="flex items-center gap-1.5 text-xs">
            <Icon name={look.icon} size={13} className={TEXT[look.tone]} />
            <span className="text-ink-2">{look.word}</span>
            <span className="font-semibold text-ink">{formatCount(count)}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}

function isListed(state: string): boolean {
  return (WORKER_STATES as readonly string[]).includes(state);
}
