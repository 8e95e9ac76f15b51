// A worker's last five minutes as one strip; the timeline has the rest of them.
import { useMemo } from "react";
import { Link } from "wouter";
import { KINDS, timelineLanes } from "~/components/swimlane/kinds";
import { useTimeline } from "~/data/queries";
import { formatClock } from "~/format/format";

const SECONDS = 300;
const EVERY_MS = 5_000;

export function Minutes({ id }: { id: string }) {
  const { data } = useTimeline({ seconds: SECONDS, search: id }, { everyMs: EVERY_MS });
  const lane = useMemo(() => (data === undefined ? [] : timelineLanes(data)).find((one) => one.id === id), [data, id]);
  if (data === undefined || lane === undefined) return null;
  const length = data.steps * data.step_s * 1000;
  const percent = (ms: number) => `${(ms / length) * 100}%`;
  return (
    <div className="flex flex-col gap-1">
      <div aria-hidden="true" className="relative h-4 overflow-hidden rounded-sm bg-sunken">
        {lane.spans.map((span) => (
          <span
            key={span.from}
            className="absolute inset-y-0"
            title={`${KINDS[span.kind].word} from ${formatClock(span.from)} to ${formatClock(span.to)}`}
            style={{
              background: `var(--${KINDS[span.kind].token})`,
              left: percent(span.from - data.start),
              width: percent(span.to - span.from),
            }}
          />
        ))}
      </div>
      <p className="flex justify-between text-xs text-ink-3">
        <span>{formatClock(data.start)}</span>
        <Link
          href={`/timeline?q=${encodeURIComponent(id)}`}
          className="text-accent underline decoration-line-strong underline-offset-2 hover:decoration-current"
        >
          Its timeline
        </Link>
        <span>{formatClock(data.start + length)}</span>
      </p>
    </div>
  );
}
