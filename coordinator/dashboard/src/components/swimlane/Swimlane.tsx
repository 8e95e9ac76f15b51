// Lanes over time on one canvas: 1,000 workers scroll, pan, zoom, pause and go back; the same spans are also a table.
import { type KeyboardEvent, type PointerEvent, useEffect, useMemo, useRef, useState } from "react";
import { Button, IconButton } from "~/components/Button";
import { ChartFrame } from "~/components/charts/ChartFrame";
import { useSize } from "~/components/charts/size";
import { formatClock, formatDuration, formatPlural } from "~/format/format";
import { useTheme } from "~/theme/theme";
import { AXIS_HEIGHT_PX, LABEL_WIDTH_PX, LANE_HEIGHT_PX, type Mark, paint, readColors } from "./draw";
import { KINDS, type Lane } from "./kinds";
import { type Bounds, clampView, firstSpan, followView, panView, spanAt, type View, zoomView } from "./viewport";

/** Rows of the table: a shorter time or a search shows the others. */
const TABLE_ROWS_MAX = 500;
const WHEEL_ZOOM = 1.0015;

export interface SwimlaneProps {
  title: string;
  lanes: readonly Lane[];
  bounds: Bounds;
  /** Where the view stands; `null` follows the present with `lengthMs`. */
  paused: View | null;
  lengthMs: number;
  onPausedChange: (view: View | null) => void;
  onLengthChange: (lengthMs: number) => void;
  onOpenLane?: (lane: Lane) => void;
  marks?: readonly Mark[];
  height: number;
  empty?: string;
}

export function Swimlane(props: SwimlaneProps) {
  const { title, lanes, bounds, paused, lengthMs, marks = [], height } = props;
  const [sizeRef, { width }] = useSize<HTMLDivElement>();
  const canvas = useRef<HTMLCanvasElement>(null);
  const [scrollTop, setScrollTop] = useState(0);
  const [active, setActive] = useState(-1);
  const [cursor, setCursor] = useState<number | null>(null);
  const drag = useRef<{ x: number; view: View; moved: boolean } | null>(null);
  const theme = useTheme();
  // biome-ignore lint/correctness/useExhaustiveDependencies: another theme is another set of colours
  const colors = useMemo(readColors, [theme]);
  const view = useMemo(
    () => paused ?? followView(clampView({ from: bounds.to - lengthMs, to: bounds.to }, bounds), bounds),
    [paused, bounds, lengthMs],
  );
  const plotWidth = Math.max(1, width - LABEL_WIDTH_PX);

  useEffect(() => {
    const element = canvas.current;
    const ctx = element?.getContext("2d") ?? null;
    if (element === null || ctx === null || width === 0) return;
    const frame = requestAnimationFrame(() => {
      const ratio = devicePixelRatio;
      const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
      if (element.width !== wide || element.height !== high) {
        element.width = wide;
        element.height = high;
      }
      ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
      paint(ctx, { width, height, lanes, view, scrollTop, active, cursor, marks }, colors);
    });
    return () => cancelAnimationFrame(frame);
  }, [width, height, lanes, view, scrollTop, active, cursor, marks, colors]);

  const show = (next: View) => {
    props.onLengthChange(next.to - next.from);
    props.onPausedChange(next);
  };
  const timeAt = (x: number) => view.from + ((x - LABEL_WIDTH_PX) / plotWidth) * (view.to - view.from);
  const middle = (view.from + view.to) / 2;
  const zoom = (factor: number, around = middle) => {
    const next = zoomView(view, factor, around, bounds);
    // Following goes on while only the length changes.
    if (paused === null && around === middle) props.onLengthChange(next.to - next.from);
    else show(next);
  };

  const scroller = sizeRef;
  const activate = (index: number) => {
    const next = Math.max(0, Math.min(lanes.length - 1, index));
    setActive(next);
    const box = scroller.current;
    if (box === null) return;
    const [top, bottom] = [next * LANE_HEIGHT_PX, (next + 1) * LANE_HEIGHT_PX];
    const room = height - AXIS_HEIGHT_PX;
    if (top < box.scrollTop) box.scrollTo({ top });
    else if (bottom > box.scrollTop + room) box.scrollTo({ top: bottom - room });
  };

  const onKey = (event: KeyboardEvent) => {
    const step = (view.to - view.from) / 8;
    switch (event.key) {
      case "ArrowLeft":
        show(panView(view, -step, bounds));
        break;
      case "ArrowRight":
        show(panView(view, step, bounds));
        break;
      case "ArrowUp":
        activate(active - 1);
        break;
      case "ArrowDown":
        activate(active + 1);
        break;
      case "+":
      case "=":
        zoom(0.5);
        break;
      case "-":
        zoom(2);
        break;
      case " ":
        props.onPausedChange(paused === null ? view : null);
        break;
      case "Home":
        show(panView(view, bounds.from - view.from, bounds));
        break;
      case "End":
        props.onPausedChange(null);
        break;
      case "Enter": {
        const lane = lanes[active];
        if (lane !== undefined) props.onOpenLane?.(lane);
        break;
      }
      default:
        return;
    }
    event.preventDefault();
  };

  // React's wheel handlers cannot prevent the page's own zoom: this one can.
  const onWheel = useRef<(event: WheelEvent) => void>(() => {});
  onWheel.current = (event) => {
    const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey;
    if (!event.ctrlKey && !event.metaKey && !sideways) return;
    event.preventDefault();
    if (sideways) show(panView(view, ((event.deltaX || event.deltaY) / plotWidth) * (view.to - view.from), bounds));
    else zoom(WHEEL_ZOOM ** event.deltaY, timeAt(event.offsetX));
  };
  useEffect(() => {
    const box = scroller.current;
    const handle = (event: WheelEvent) => onWheel.current(event);
    box?.addEventListener("wheel", handle, { passive: false });
    return () => box?.removeEventListener("wheel", handle);
  }, [scroller]);

  const laneAt = (event: PointerEvent<HTMLCanvasElement>) => {
    const box = event.currentTarget.getBoundingClientRect();
    const y = event.clientY - box.top;
    return y < AXIS_HEIGHT_PX ? -1 : Math.floor((y - AXIS_HEIGHT_PX + scrollTop) / LANE_HEIGHT_PX);
  };
  const onMove = (event: PointerEvent<HTMLCanvasElement>) => {
    const x = event.clientX - event.currentTarget.getBoundingClientRect().left;
    const held = drag.current;
    if (held !== null && Math.abs(event.clientX - held.x) > 3) held.moved = true;
    if (held?.moved === true) {
      show(panView(held.view, ((held.x - event.clientX) / plotWidth) * (held.view.to - held.view.from), bounds));
    }
    const index = laneAt(event);
    setActive(index < lanes.length ? index : -1);
    setCursor(x > LABEL_WIDTH_PX ? timeAt(x) : null);
  };

  const lane = lanes[active];
  const moment = cursor ?? view.to - 1;
  const table = () => ({ columns: ["Worker", "Phase", "From", "Duration"], rows: spanRows(lanes, view) });

  return (
    <ChartFrame
      title={title}
      hint={`${formatPlural(lanes.length, "worker")} · ${formatDuration(Math.round((view.to - view.from) / 1000))}`}
      table={table}
      height={height + 30}
      actions={
        <>
          {paused === null ? null : (
            <Button icon="live" onClick={() => props.onPausedChange(null)}>
              Back to now
            </Button>
          )}
          <IconButton
            icon={paused === null ? "pause" : "play"}
            label={paused === null ? "Pause" : "Follow the present"}
            aria-pressed={paused !== null}
            onClick={() => props.onPausedChange(paused === null ? view : null)}
          />
          <IconButton icon="minus" label="Show a longer time" onClick={() => zoom(2)} />
          <IconButton icon="plus" label="Show a shorter time" onClick={() => zoom(0.5)} />
        </>
      }
    >
      <div className="flex flex-wrap items-center gap-x-4 gap-y-1 px-3.5 pb-2 text-xs">
        <Legend />
        <span aria-live="polite" className="ml-auto truncate text-ink-2">
          {lane === undefined ? "" : describe(lane, moment)}
        </span>
      </div>
      <div
        ref={scroller}
        role="application"
        aria-label={`${title}: arrows move, plus and minus zoom, space pauses, Enter opens a worker; the values are in the table`}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: an application takes the keyboard
        tabIndex={0}
        className="relative overflow-y-auto border-t border-line focus-visible:outline-2 focus-visible:-outline-offset-2"
        style={{ height }}
        onKeyDown={onKey}
        onScroll={(event) => setScrollTop(event.currentTarget.scrollTop)}
      >
        <div style={{ height: Math.max(height, lanes.length * LANE_HEIGHT_PX + AXIS_HEIGHT_PX) }}>
          <canvas
            ref={canvas}
            className={`sticky top-0 block ${drag.current?.moved ? "cursor-grabbing" : "cursor-crosshair"}`}
            style={{ width, height }}
            onPointerDown={(event) => {
              drag.current = { x: event.clientX, view, moved: false };
              event.currentTarget.setPointerCapture(event.pointerId);
            }}
            onPointerMove={onMove}
            onPointerUp={(event) => {
              const clicked = lanes[laneAt(event)];
              if (drag.current?.moved === false && clicked !== undefined) props.onOpenLane?.(clicked);
              drag.current = null;
            }}
            onPointerLeave={() => {
              setActive(-1);
              setCursor(null);
            }}
          />
        </div>
        {lanes.length > 0 ? null : (
          <p className="absolute inset-0 flex items-center justify-center text-sm text-ink-2">
            {props.empty ?? "No worker was there in this time."}
          </p>
        )}
      </div>
    </ChartFrame>
  );
}

/** The spans of a view as texts, the first TABLE_ROWS_MAX of them. */
function spanRows(lanes: readonly Lane[], view: View): string[][] {
  const rows: string[][] = [];
  for (const lane of lanes) {
    for (let at = firstSpan(lane.spans, view.from); at < lane.spans.length; at += 1) {
      const span = lane.spans[at];
      if (span === undefined || span.from >= view.to) break;
      if (rows.length === TABLE_ROWS_MAX) return rows;
      const duration = formatDuration((span.to - span.from) / 1000);
      rows.push([lane.label, KINDS[span.kind].word, formatClock(span.from), duration]);
    }
  }
  return rows;
}

function describe(lane: Lane, moment: number): string {
  const span = spanAt(lane.spans, moment);
  if (span === null) return `${lane.label}, ${formatClock(moment)}: nothing known`;
  const seconds = (span.to - span.from) / 1000;
  return `${lane.label}, ${formatClock(moment)}: ${KINDS[span.kind].word}, ${formatDuration(seconds)} from ${formatClock(span.from)}`;
}

const hatching = (token: string) =>
  `repeating-linear-gradient(135deg, var(--${token}) 0 2px, var(--surface) 2px 3.5px)`;

function Legend() {
  return (
    <ul aria-label="Phases" className="flex flex-wrap gap-x-4 gap-y-1">
      {Object.entries(KINDS)
        .filter(([kind]) => kind !== "absent")
        .map(([kind, look]) => (
          <li key={kind} className="flex items-center gap-1.5">
            <span
              aria-hidden="true"
              className="size-2.5 rounded-xs"
              style={{
                background: look.hatched === true ? hatching(look.token) : `var(--${look.token})`,
              }}
            />
            <span className="text-ink-2">{look.word}</span>
          </li>
        ))}
    </ul>
  );
}
