// The checkpoints in time as columns: one each, as high as it took, wrote or ran; the table below has the figures.
import type { Checkpoint } from "~/api/types";
import { Segments } from "~/components/filters/Filters";
import { useQueryChoice } from "~/components/filters/query";
import { Icon } from "~/components/Icon";
import { Panel } from "~/components/Panel";
import { TEXT } from "~/components/tone";
import { useNow } from "~/data/clock";
import { formatAge, formatBytes, formatClock, formatDuration } from "~/format/format";
import { MEASURES, type Measure, measureOf, phaseParts, STATUS, verifiedLook } from "./checkpoints";

/** Columns that are shown; older ones are in the table. */
const COLUMNS_MAX = 60;

const MEASURE_LABELS: Record<Measure, string> = { duration: "Duration", bytes: "New bytes", rate: "MB/s" };

function show(value: number | null, measure: Measure): string {
  if (value === null) return "not measured";
  if (measure === "duration") return formatDuration(value);
  return measure === "bytes" ? formatBytes(value) : `${formatBytes(value * 1e6)}/s`;
}

interface StripProps {
  checkpoints: readonly Checkpoint[];
  openId: string | null;
  onOpen: (id: string) => void;
}

export function Strip({ checkpoints, openId, onOpen }: StripProps) {
  const [measure, setMeasure] = useQueryChoice("by", MEASURES);
  const now = useNow();
  const shown = checkpoints.slice(0, COLUMNS_MAX).reverse();
  const top = shown.reduce((most, one) => Math.max(most, measureOf(one, measure) ?? 0), 0);
  const oldest = shown[0];
  return (
    <Panel
      title="Timeline"
      hint={oldest === undefined ? "" : `the last ${shown.length}, from ${formatAge(oldest.created_at, now)} to now`}
      actions={
        <Segments
          label="Height"
          options={MEASURES.map((value) => ({ value, label: MEASURE_LABELS[value] }))}
          value={measure}
          onChange={setMeasure}
        />
      }
      className="shrink-0"
    >
      <div className="flex h-28 items-stretch justify-end gap-px">
        {shown.map((one) => (
          <Column
            key={one.id}
            checkpoint={one}
            measure={measure}
            top={top}
            open={one.id === openId}
            onOpen={() => onOpen(one.id)}
          />
        ))}
      </div>
      <div className="mt-1.5 flex flex-wrap items-center justify-end gap-x-6 gap-y-1 text-2xs text-ink-3">
        {measure === "duration" ? <Legend /> : <span>the highest is {show(top === 0 ? null : top, measure)}</span>}
      </div>
    </Panel>
  );
}

function Legend() {
  return (
    <ul className="flex flex-wrap gap-x-4">
      {[
        ["Stage", "series-3"],
        ["Drain", "series-1"],
        ["Commit", "series-2"],
      ].map(([label, token]) => (
        <li key={label} className="flex items-center gap-1.5">
          <span aria-hidden="true" className="size-2 rounded-xs" style={{ background: `var(--${token})` }} />
          {label}
        </li>
      ))}
    </ul>
  );
}

interface ColumnProps {
  checkpoint: Checkpoint;
  measure: Measure;
  top: number;
  open: boolean;
  onOpen: () => void;
}

/** Every column is a mouse's way to its row; the keyboard has the table, where the same rows are. */
function Column({ checkpoint, measure, top, open, onOpen }: ColumnProps) {
  const value = measureOf(checkpoint, measure);
  const status = STATUS[checkpoint.status];
  const verified = verifiedLook(checkpoint);
  const words = [
    `Step ${checkpoint.step}`,
    status.word,
    show(value, measure),
    ...(checkpoint.status === "durable" ? [verified.word] : []),
    ...(checkpoint.tier === null ? [] : [`${checkpoint.tier} tier`]),
    formatClock(checkpoint.created_at),
  ].join(", ");
  const icon = checkpoint.status === "durable" ? (checkpoint.verified === null ? null : verified) : status;
  return (
    <button
      type="button"
      tabIndex={-1}
      title={words}
      aria-label={words}
      onClick={onOpen}
      className={`group flex max-w-14 min-w-1.5 flex-1 flex-col items-center justify-end gap-0.5 rounded-xs hover:bg-hover ${open ? "bg-selected" : ""}`}
    >
      {icon === null ? null : <Icon name={icon.icon} size={11} className={TEXT[icon.tone]} />}
      <Bar checkpoint={checkpoint} measure={measure} value={value} top={top} />
    </button>
  );
}

/** 84 % of the height, so that the icon has its place above the highest. */
const FULL = 84;

function Bar({ checkpoint, measure, value, top }: Omit<ColumnProps, "open" | "onOpen"> & { value: number | null }) {
  if (value === null || top === 0) {
    return <span className="h-2 w-[70%] rounded-t-xs border border-b-0 border-dashed border-line-strong" />;
  }
  const parts = measure === "duration" ? phaseParts(checkpoint) : [];
  const total = parts.reduce((sum, part) => sum + part.seconds, 0);
  const shape = "flex w-[70%] flex-col-reverse overflow-hidden rounded-t-xs";
  return (
    <span className={shape} style={{ height: `${Math.max(2, (value / top) * FULL)}%` }}>
      {total === 0 ? (
        <span className="h-full" style={{ background: `var(--series-${measure === "duration" ? 6 : 1})` }} />
      ) : (
        parts.map((part) => (
          <span
            key={part.id}
            style={{ background: `var(--${part.token})`, height: `${(part.seconds / total) * 100}%` }}
          />
        ))
      )}
    </span>
  );
}
