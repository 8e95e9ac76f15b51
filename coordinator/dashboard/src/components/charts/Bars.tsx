// Bars: a histogram over ranges, and a ranked list of names with their amounts against a common limit.
import { type ReactNode, useMemo } from "react";
import { ChartFrame } from "./ChartFrame";

export interface Bin {
  /** The range, as it is shown: "10–20 ms". */
  label: string;
  count: number;
}

interface HistogramProps {
  title: string;
  hint?: string;
  bins: readonly Bin[];
  /** What is counted: "barriers". */
  noun: string;
  height?: number;
  token?: string;
}

export function Histogram({ title, hint, bins, noun, height = 140, token = "series-1" }: HistogramProps) {
  const top = Math.max(...bins.map(({ count }) => count), 1);
  const table = () => ({
    columns: ["Range", noun],
    rows: bins.map(({ label, count }) => [label, String(count)]),
  });
  return (
    <ChartFrame title={title} hint={hint} height={height} table={table}>
      <div
        className="flex items-end gap-1 px-3.5 pb-3"
        style={{ height }}
        role="img"
        aria-label={`${title}: a chart; its values are in the table`}
      >
        {bins.map(({ label, count }) => (
          <div
            key={label}
            className="flex h-full min-w-0 flex-1 flex-col items-center justify-end gap-1"
            title={`${label}: ${count} ${noun}`}
          >
            <span className="text-2xs text-ink-2">{count === 0 ? "" : count}</span>
            <span
              className="w-full rounded-t-sm"
              style={{ background: `var(--${token})`, height: `${(count / top) * 76}%`, minHeight: count > 0 ? 2 : 0 }}
            />
            <span className="h-4 max-w-full truncate text-2xs text-ink-3">{label}</span>
          </div>
        ))}
      </div>
    </ChartFrame>
  );
}

export interface Bar {
  id: string;
  label: ReactNode;
  value: number;
  /** The value as it is shown. */
  text: string;
  token?: string;
}

interface BarListProps {
  /** What the list shows, for a screen reader. */
  label: string;
  bars: readonly Bar[];
  /** The length of a full bar; the largest value where it is not given. */
  full?: number;
}

/** Names, amounts and bars. It is a list of texts: it needs no table beside it. */
export function BarList({ label, bars, full }: BarListProps) {
  const top = useMemo(() => full ?? Math.max(...bars.map(({ value }) => value), 0), [bars, full]);
  return (
    <ol aria-label={label} className="grid grid-cols-[minmax(5rem,10rem)_1fr_auto] gap-x-3 gap-y-1">
      {bars.map((bar) => (
        <li key={bar.id} className="col-span-3 grid grid-cols-subgrid items-center text-sm">
          <span className="truncate text-ink-2">{bar.label}</span>
          <span aria-hidden="true" className="h-2 overflow-hidden rounded-full bg-sunken">
            <span
              className="block h-full rounded-full"
              style={{
                background: `var(--${bar.token ?? "series-1"})`,
                width: `${top > 0 ? Math.min(100, (bar.value / top) * 100) : 0}%`,
              }}
            />
          </span>
          <span className="text-right font-medium text-ink">{bar.text}</span>
        </li>
      ))}
    </ol>
  );
}

export interface Share {
  id: string;
  label: string;
  /** A part of one. */
  share: number;
  token: string;
  text: string;
}

/** Parts of a whole as one bar with its words below: shares of time, shards by worker. */
export function ShareBar({ label, shares }: { label: string; shares: readonly Share[] }) {
  return (
    <div className="flex flex-col gap-2">
      <div aria-hidden="true" className="flex h-2.5 gap-px overflow-hidden rounded-full bg-sunken">
        {shares.map((part) => (
          <span
            key={part.id}
            style={{ background: `var(--${part.token})`, width: `${Math.max(0, Math.min(1, part.share)) * 100}%` }}
          />
        ))}
      </div>
      <ul aria-label={label} className="flex flex-wrap gap-x-4 gap-y-1 text-xs">
        {shares.map((part) => (
          <li key={part.id} className="flex items-center gap-1.5">
            <span aria-hidden="true" className="size-2 rounded-xs" style={{ background: `var(--${part.token})` }} />
            <span className="text-ink-2">{part.label}</span>
            <span className="font-semibold text-ink">{part.text}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}
