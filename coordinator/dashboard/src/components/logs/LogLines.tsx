// Lines of logs, any number of them: only those in sight exist. At its end it follows; scrolled back it stands still.
import { useVirtualizer } from "@tanstack/react-virtual";
import { type ReactNode, useEffect, useRef, useState } from "react";
import type { LogLine } from "~/api/types";
import { Button } from "~/components/Button";
import { Icon, type IconName } from "~/components/Icon";
import { TEXT, type Tone } from "~/components/tone";
import { formatClock, formatMoment } from "~/format/format";

const LINE_HEIGHT_PX = 22;
/** So close to the end counts as being at it. */
const END_PX = 40;

export const LEVELS: Readonly<Record<LogLine["level"], { word: string; icon: IconName; tone: Tone }>> = {
  debug: { word: "Debug", icon: "circle", tone: "neutral" },
  info: { word: "Info", icon: "info", tone: "info" },
  warning: { word: "Warning", icon: "warning", tone: "warn" },
  error: { word: "Error", icon: "x-circle", tone: "danger" },
};

interface LogLinesProps {
  label: string;
  lines: readonly LogLine[];
  /** Long lines go on below, in place of being cut. */
  wrap?: boolean;
  empty?: ReactNode;
  /** The height where it does not fill its box: a CSS length. */
  height?: string;
  /** Shown at the beginning: a button for earlier lines. */
  before?: ReactNode;
}

export function fieldsText(fields: LogLine["fields"]): string {
  return Object.entries(fields)
    .map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(" ");
}

export function LogLines({ label, lines, wrap = false, empty, height, before }: LogLinesProps) {
  const scroller = useRef<HTMLDivElement>(null);
  const [following, setFollowing] = useState(true);
  const virtual = useVirtualizer({
    count: lines.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => LINE_HEIGHT_PX,
    overscan: 12,
    getItemKey: (index) => lines[index]?.number ?? index,
  });
  const last = lines.at(-1)?.number;

  // biome-ignore lint/correctness/useExhaustiveDependencies: a new last line is the reason to scroll
  useEffect(() => {
    if (following && lines.length > 0) virtual.scrollToIndex(lines.length - 1, { align: "end" });
  }, [following, last]);

  return (
    <div
      className="relative flex min-h-0 flex-1 flex-col"
      style={height === undefined ? undefined : { height, flex: "none" }}
    >
      <div
        ref={scroller}
        role="log"
        aria-label={label}
        aria-live="off"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
        tabIndex={0}
        className="min-h-0 flex-1 overflow-auto py-1 font-mono text-xs focus-visible:outline-2 focus-visible:-outline-offset-2"
        onScroll={(event) => {
          const { scrollTop, scrollHeight, clientHeight } = event.currentTarget;
          setFollowing(scrollTop + clientHeight >= scrollHeight - END_PX);
        }}
      >
        {before}
        <div className="relative" style={{ height: virtual.getTotalSize() }}>
          {virtual.getVirtualItems().map((item) => {
            const line = lines[item.index];
            if (line === undefined) return null;
            return (
              <div
                key={item.key}
                ref={wrap ? virtual.measureElement : undefined}
                data-index={item.index}
                className="absolute inset-x-0 hover:bg-hover"
                style={{ transform: `translateY(${item.start}px)`, ...(wrap ? {} : { height: item.size }) }}
              >
                <Line line={line} wrap={wrap} />
              </div>
            );
          })}
        </div>
        {lines.length > 0
          ? null
          : (empty ?? <p className="px-4 py-10 text-center font-sans text-sm text-ink-2">No lines.</p>)}
      </div>
      {following || lines.length === 0 ? null : (
        <span className="absolute right-4 bottom-3">
          <Button icon="arrow-down" onClick={() => setFollowing(true)}>
            Follow
          </Button>
        </span>
      )}
    </div>
  );
}

function Line({ line, wrap }: { line: LogLine; wrap: boolean }) {
  const level = LEVELS[line.level];
  const fields = fieldsText(line.fields);
  return (
    <div
      className={`grid grid-cols-[max-content_5.25rem_minmax(5rem,9rem)_minmax(0,1fr)] gap-x-3 px-3.5 leading-[22px] ${
        line.level === "error" ? "bg-danger-soft" : ""
      }`}
    >
      <time
        className="text-ink-3"
        dateTime={new Date(line.timestamp).toISOString()}
        title={formatMoment(line.timestamp)}
      >
        {formatClock(line.timestamp, true)}
      </time>
      <span className={`flex items-center gap-1.5 ${TEXT[level.tone]}`}>
        <Icon name={level.icon} size={12} />
        {level.word}
      </span>
      <span className="truncate text-ink-2" title={line.source}>
        {line.source}
      </span>
      <span
        className={wrap ? "break-words whitespace-pre-wrap" : "truncate whitespace-pre"}
        title={wrap ? undefined : line.message}
      >
        {line.message}
        {fields === "" ? null : <span className="text-ink-2"> {fields}</span>}
      </span>
    </div>
  );
}
