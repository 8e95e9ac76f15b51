// Lines over time, drawn by uPlot: one cursor over all charts of a view, both themes, a pause, and a table.
import { useEffect, useMemo, useRef, useState } from "react";
import uPlot from "uplot";
import { IconButton } from "~/components/Button";
import { formatClock } from "~/format/format";
import { tokenColor, useTheme } from "~/theme/theme";
import { ChartFrame } from "./ChartFrame";
import { FLAG_PX, Flags } from "./Flags";
import { legible, type TimeSeriesMark } from "./flags";
import { useSize } from "./size";

export interface TimeSeriesLine {
  label: string;
  /** One for each x; null where nothing was measured. */
  values: readonly (number | null)[];
  /** A token without its dashes; "series-1" to "series-6" by place where it is not given. */
  token?: string;
}

export type { TimeSeriesMark };

export interface TimeSeriesProps {
  title: string;
  hint?: string;
  /** Unix seconds, rising. */
  x: readonly number[];
  lines: readonly TimeSeriesLine[];
  format: (value: number | null) => string;
  height?: number;
  /** Charts with the same key share one cursor. */
  sync?: string;
  /** Moments to draw a line at: a checkpoint, a loss. One with a link has a flag above the line, too. */
  marks?: readonly TimeSeriesMark[];
  /** Where a flag leads that stands for several marks, Unix seconds. */
  flagHref?: (from: number, to: number) => string;
  /** Called with Unix seconds when a stretch is dragged over. */
  onRange?: (from: number, to: number) => void;
  /** What is missing when there is nothing to draw. */
  empty?: string;
}

const HEIGHT_PX = 180;
const FONT_PX = 11;
/** The places left and right of the lines. */
const AXIS_PX = 64;
const RIGHT_PX = 28;
/** Round times for the axis, in seconds. */
const TICKS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];

const isMeasured = (lines: readonly TimeSeriesLine[]) =>
  lines.some((line) => line.values.some((value) => value !== null));

const tokenOf = (line: TimeSeriesLine, index: number) => line.token ?? `series-${(index % 6) + 1}`;

export function TimeSeries(props: TimeSeriesProps) {
  const { title, hint, lines, format, height = HEIGHT_PX, empty = "Nothing was measured yet." } = props;
  const [frozen, setFrozen] = useState<Pick<TimeSeriesProps, "x" | "lines"> | null>(null);
  const shown = frozen ?? props;
  const [at, setAt] = useState<number | null>(null);
  const index = at !== null && at < shown.x.length ? at : shown.x.length - 1;
  const hasData = isMeasured(shown.lines);

  const table = () => ({
    columns: ["Time", ...shown.lines.map((line) => line.label)],
    rows: shown.x
      .map((x, row) => [formatClock(x * 1000), ...shown.lines.map((line) => format(line.values[row] ?? null))])
      .reverse(),
  });

  return (
    <ChartFrame
      title={title}
      hint={hint}
      height={height + 30}
      table={table}
      actions={
        <IconButton
          icon={frozen === null ? "pause" : "play"}
          label={frozen === null ? `Pause ${title}` : `Go on with ${title}`}
          aria-pressed={frozen !== null}
          onClick={() => setFrozen(frozen === null ? { x: props.x, lines } : null)}
        />
      }
    >
      <ul className="flex min-h-5 flex-wrap items-center gap-x-4 px-3.5 text-xs">
        {shown.lines.map((line, number) => (
          <li key={line.label} className="flex items-center gap-1.5">
            <span
              aria-hidden="true"
              className="h-0.5 w-3 rounded-full"
              style={{ background: `var(--${tokenOf(line, number)})` }}
            />
            <span className="text-ink-3">{line.label}</span>
            <span className="font-medium text-ink">{format(line.values[index] ?? null)}</span>
          </li>
        ))}
        <li className="ml-auto text-ink-3">{shown.x[index] === undefined ? "" : formatClock(shown.x[index] * 1000)}</li>
      </ul>
      <div className="relative px-1.5 pb-1.5" style={{ height: height + 10 }}>
        <Plot {...props} x={shown.x} lines={shown.lines} height={height} onCursor={setAt} />
        {hasData ? null : (
          <p className="pointer-events-none absolute inset-0 flex items-center justify-center px-6 text-center text-sm text-ink-2">
            <span className="rounded-md bg-surface px-2 py-1">{empty}</span>
          </p>
        )}
      </div>
    </ChartFrame>
  );
}

interface PlotProps extends TimeSeriesProps {
  height: number;
  onCursor: (index: number | null) => void;
}

function toData(x: readonly number[], lines: readonly TimeSeriesLine[]): uPlot.AlignedData {
  return [Float64Array.from(x), ...lines.map((line) => [...line.values])];
}

function Plot({ title, x, lines, format, height, sync, marks = [], flagHref, onRange, onCursor }: PlotProps) {
  const [ref, { width }] = useSize<HTMLDivElement>();
  const theme = useTheme();
  const plot = useRef<uPlot | null>(null);
  const live = useRef({ format, onRange, onCursor, marks, x, lines });
  live.current = { format, onRange, onCursor, marks, x, lines };
  // The plot is made anew for other lines, another theme or size; new values are only handed in.
  const shape = JSON.stringify(lines.map((line, index) => [line.label, tokenOf(line, index)]));
  const flags = flagHref !== undefined;

  useEffect(() => {
    const host = ref.current;
    if (host === null || width === 0) return;
    const options = plotOptions({
      width,
      height,
      sync: sync ?? null,
      lines: JSON.parse(shape) as [string, string][],
      format: (value) => live.current.format(value),
      onCursor: (index) => live.current.onCursor(index),
      onRange: (from, to) => live.current.onRange?.(from, to),
      marks: () => live.current.marks,
      measured: () => isMeasured(live.current.lines),
      top: flags ? FLAG_PX + 4 : 8,
      dark: theme === "dark",
    });
    const made = new uPlot(options, toData(live.current.x, live.current.lines), host);
    plot.current = made;
    return () => {
      plot.current = null;
      made.destroy();
    };
  }, [ref, width, height, sync, shape, flags, theme]);

  const data = useMemo(() => toData(x, lines), [x, lines]);
  useEffect(() => {
    plot.current?.setData(data);
  }, [data]);

  return (
    <div className="relative">
      <div ref={ref} role="img" aria-label={`${title}: a chart; its values are in the table`} className="w-full" />
      {flagHref === undefined ? null : (
        <Flags
          label={title}
          marks={marks}
          from={x[0] ?? 0}
          to={x.at(-1) ?? 0}
          left={AXIS_PX}
          width={width - AXIS_PX - RIGHT_PX}
          hrefOf={flagHref}
        />
      )}
    </div>
  );
}

interface PlotSettings {
  width: number;
  height: number;
  sync: string | null;
  lines: readonly (readonly [label: string, token: string])[];
  format: (value: number | null) => string;
  onCursor: (index: number | null) => void;
  onRange: (from: number, to: number) => void;
  marks: () => readonly TimeSeriesMark[];
  /** False while there is nothing to draw: an axis without a line has no figures. */
  measured: () => boolean;
  /** Room above the lines. */
  top: number;
  dark: boolean;
}

function plotOptions(settings: PlotSettings): uPlot.Options {
  const { lines, format } = settings;
  const axis: uPlot.Axis = {
    stroke: tokenColor("ink-3"),
    font: `${FONT_PX}px system-ui, sans-serif`,
    grid: { stroke: tokenColor("line"), width: 1 },
    ticks: { show: false },
  };
  return {
    width: settings.width,
    height: settings.height,
    legend: { show: false },
    padding: [settings.top, RIGHT_PX, 0, 0],
    cursor: {
      y: false,
      drag: { x: true, y: false, setScale: false },
      points: { size: 7 },
      ...(settings.sync === null ? {} : { sync: { key: settings.sync, setSeries: false } }),
    },
    scales: {
      x: { time: true },
      // From zero, so that a small change does not look like a large one.
      y: { range: (_plot, _low, high) => [0, high === null || high <= 0 ? 1 : high * 1.12] },
    },
    axes: [
      {
        ...axis,
        size: 26,
        space: 64,
        incrs: TICKS_S,
        values: (_plot, at) => at.map((second) => formatClock(second * 1000).slice(0, 8)),
      },
      {
        ...axis,
        size: AXIS_PX,
        space: 34,
        values: (_plot, values) => values.map((value) => (settings.measured() ? format(value) : "")),
      },
    ],
    series: [
      {},
      ...lines.map(([label, token], index) => ({
        label,
        stroke: tokenColor(token),
        width: 1.5,
        ...(lines.length === 1 ? { fill: `${tokenColor(token)}${settings.dark ? "26" : "1a"}` } : {}),
        // Lines differ by more than colour.
        ...(index % 3 === 1 ? { dash: [6, 3] } : index % 3 === 2 ? { dash: [2, 3] } : {}),
        points: { show: false },
        spanGaps: false,
      })),
    ],
    hooks: {
      setCursor: [(plot) => settings.onCursor(plot.cursor.idx ?? null)],
      setSelect: [
        (plot) => {
          if (plot.select.width < 3) return;
          const from = plot.posToVal(plot.select.left, "x");
          const to = plot.posToVal(plot.select.left + plot.select.width, "x");
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          settings.onRange(from, to);
        },
      ],
      draw: [(plot) => drawMarks(plot, settings.marks())],
    },
  };
}

function drawMarks(plot: uPlot, marks: readonly TimeSeriesMark[]): void {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.setLineDash([3, 3]);
  const { min, max } = plot.scales.x ?? {};
  for (const { at, tone } of legible(marks, min ?? 0, max ?? 0)) {
    const left = Math.round(plot.valToPos(at, "x", true));
    ctx.strokeStyle = tokenColor(tone ?? "accent");
    // What is as usual stays behind the lines.
    ctx.globalAlpha = tone === "ok" || tone === "info" || tone === "neutral" ? 0.4 : 1;
    ctx.beginPath();
    ctx.moveTo(left, bbox.top);
    ctx.lineTo(left, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}
