// One figure with its name, its unit, where it comes from, and how it went lately.
import { type ReactNode, useId } from "react";
import { Link } from "wouter";
import { Icon, type IconName } from "./Icon";
import { TEXT, type Tone } from "./tone";

interface StatTileProps {
  label: string;
  /** A text, or <Value> where it may be unknown. */
  value: ReactNode;
  icon?: IconName;
  /** What it was measured over, or what it means: "over the last 10 s". */
  hint?: ReactNode;
  tone?: Tone;
  /** The last values, oldest first; null where there was none. */
  spark?: readonly (number | null)[];
  href?: string;
}

export function StatTile({ label, value, icon, hint, tone, spark, href }: StatTileProps) {
  const id = useId();
  return (
    // biome-ignore lint/a11y/useSemanticElements: a fieldset groups fields of a form
    <div
      role="group"
      aria-labelledby={id}
      className="relative flex min-w-0 flex-col gap-1 rounded-lg border border-line bg-surface px-3.5 py-3"
    >
      <span id={id} className="flex items-center gap-1.5 text-xs font-medium text-ink-3">
        {icon === undefined ? null : <Icon name={icon} size={13} />}
        {href === undefined ? (
          label
        ) : (
          <Link href={href} className="after:absolute after:inset-0 hover:text-ink">
            {label}
          </Link>
        )}
      </span>
      <span className={`truncate text-xl font-semibold tracking-tight ${tone === undefined ? "text-ink" : TEXT[tone]}`}>
        {value}
      </span>
      {hint === undefined ? null : <span className="truncate text-xs text-ink-3">{hint}</span>}
      {spark === undefined ? null : <Sparkline values={spark} />}
    </div>
  );
}

/** A small line without axes; it repeats a chart and says nothing by itself. */
export function Sparkline({ values }: { values: readonly (number | null)[] }) {
  const known = values.filter((value) => value !== null);
  const top = Math.max(...known, 0);
  if (known.length < 2 || top === 0) return <span className="h-6" />;
  const step = 100 / (values.length - 1);
  let path = "";
  let pen = "M";
  values.forEach((value, index) => {
    if (value === null) {
      pen = "M";
      return;
    }
    path += `${pen}${(index * step).toFixed(2)} ${(22 - (value / top) * 20).toFixed(2)}`;
    pen = "L";
  });
  return (
    <svg aria-hidden="true" className="mt-0.5 h-6 w-full" preserveAspectRatio="none" viewBox="0 0 100 24">
      <path d={path} className="stroke-series-1" fill="none" strokeWidth="1.5" vectorEffect="non-scaling-stroke" />
    </svg>
  );
}

/** Tiles side by side, as many as fit. */
export function StatRow({ children }: { children: ReactNode }) {
  return <div className="grid grid-cols-[repeat(auto-fit,minmax(11rem,1fr))] gap-3">{children}</div>;
}
