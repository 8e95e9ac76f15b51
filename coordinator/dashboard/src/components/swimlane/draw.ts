// Paints lanes, spans, the axis and marks on a canvas. It reads no state and decides nothing.
import { formatClock } from "~/format/format";
import { tokenColor } from "~/theme/theme";
import { KINDS, type Lane } from "./kinds";
import { firstSpan, ticks, type View } from "./viewport";

export const LANE_HEIGHT_PX = 22;
export const AXIS_HEIGHT_PX = 26;
export const LABEL_WIDTH_PX = 132;
const SPAN_INSET_PX = 3;
const TICK_SPACE_PX = 96;

export interface Mark {
  /** Unix milliseconds. */
  at: number;
  label: string;
  broken?: boolean;
}

export interface Scene {
  width: number;
  height: number;
  lanes: readonly Lane[];
  view: View;
  scrollTop: number;
  /** The lane that has the keyboard's or the pointer's attention; -1 for none. */
  active: number;
  cursor: number | null;
  marks: readonly Mark[];
}

interface Colors {
  ink: string;
  ink2: string;
  ink3: string;
  line: string;
  surface: string;
  hover: string;
  accent: string;
  danger: string;
  kind: (kind: keyof typeof KINDS) => string;
}

export function readColors(): Colors {
  const kinds = new Map(Object.entries(KINDS).map(([kind, { token }]) => [kind, tokenColor(token)]));
  return {
    ink: tokenColor("ink"),
    ink2: tokenColor("ink-2"),
    ink3: tokenColor("ink-3"),
    line: tokenColor("line"),
    surface: tokenColor("surface"),
    hover: tokenColor("hover"),
    accent: tokenColor("accent"),
    danger: tokenColor("danger"),
    kind: (kind) => kinds.get(kind) ?? "#888888",
  };
}

export function paint(ctx: CanvasRenderingContext2D, scene: Scene, colors: Colors): void {
  const { width, height, view, lanes, scrollTop } = scene;
  const scale = (width - LABEL_WIDTH_PX) / (view.to - view.from);
  const x = (at: number) => LABEL_WIDTH_PX + (at - view.from) * scale;
  ctx.fillStyle = colors.surface;
  ctx.fillRect(0, 0, width, height);
  ctx.font = "12px system-ui, sans-serif";
  ctx.textBaseline = "middle";

  const first = Math.max(0, Math.floor(scrollTop / LANE_HEIGHT_PX));
  const last = Math.min(lanes.length, Math.ceil((scrollTop + height - AXIS_HEIGHT_PX) / LANE_HEIGHT_PX));
  for (let index = first; index < last; index += 1) {
    const lane = lanes[index];
    if (lane === undefined) continue;
    const top = AXIS_HEIGHT_PX + index * LANE_HEIGHT_PX - scrollTop;
    if (index === scene.active) {
      ctx.fillStyle = colors.hover;
      ctx.fillRect(0, top, width, LANE_HEIGHT_PX);
    }
    paintSpans(ctx, lane, view, top, x, colors);
    ctx.fillStyle = colors.line;
    ctx.fillRect(0, top + LANE_HEIGHT_PX - 1, width, 1);
  }
  paintLabels(ctx, scene, first, last, colors);
  paintAxis(ctx, scene, x, colors);
  paintMarks(ctx, scene, x, colors);
}

function paintSpans(
  ctx: CanvasRenderingContext2D,
  lane: Lane,
  view: View,
  top: number,
  x: (at: number) => number,
  colors: Colors,
): void {
  const barTop = top + SPAN_INSET_PX;
  const barHeight = LANE_HEIGHT_PX - 2 * SPAN_INSET_PX - 1;
  for (let at = firstSpan(lane.spans, view.from); at < lane.spans.length; at += 1) {
    const span = lane.spans[at];
    if (span === undefined || span.from >= view.to) break;
    const left = Math.max(LABEL_WIDTH_PX, x(span.from));
    // A moment is at least one pixel: what happened is never invisible.
    const wide = Math.max(1, x(Math.min(span.to, view.to)) - left - (x(span.to) - left > 3 ? 0.5 : 0));
    ctx.fillStyle = colors.kind(span.kind);
    ctx.fillRect(left, barTop, wide, barHeight);
    if (KINDS[span.kind].hatched === true && wide > 4) hatch(ctx, left, barTop, wide, barHeight, colors.surface);
  }
}

function hatch(
  ctx: CanvasRenderingContext2D,
  left: number,
  top: number,
  width: number,
  height: number,
  color: string,
): void {
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top, width, height);
  ctx.clip();
  ctx.strokeStyle = color;
  ctx.lineWidth = 1.5;
  ctx.beginPath();
  for (let at = left - height; at < left + width; at += 6) {
    ctx.moveTo(at, top + height);
    ctx.lineTo(at + height, top);
  }
  ctx.stroke();
  ctx.restore();
}

function paintLabels(ctx: CanvasRenderingContext2D, scene: Scene, first: number, last: number, colors: Colors): void {
  ctx.save();
  ctx.beginPath();
  ctx.rect(0, AXIS_HEIGHT_PX, LABEL_WIDTH_PX - 8, scene.height);
  ctx.clip();
  for (let index = first; index < last; index += 1) {
    const middle = AXIS_HEIGHT_PX + (index + 0.5) * LANE_HEIGHT_PX - scene.scrollTop;
    ctx.fillStyle = index === scene.active ? colors.ink : colors.ink2;
    ctx.fillText(scene.lanes[index]?.label ?? "", 14, middle);
  }
  ctx.restore();
}

function paintAxis(ctx: CanvasRenderingContext2D, scene: Scene, x: (at: number) => number, colors: Colors): void {
  ctx.fillStyle = colors.surface;
  ctx.fillRect(0, 0, scene.width, AXIS_HEIGHT_PX);
  ctx.fillStyle = colors.line;
  ctx.fillRect(0, AXIS_HEIGHT_PX - 1, scene.width, 1);
  ctx.textAlign = "center";
  for (const at of ticks(scene.view, (scene.width - LABEL_WIDTH_PX) / TICK_SPACE_PX)) {
    const left = Math.round(x(at));
    if (left < LABEL_WIDTH_PX + 24 || left > scene.width - 30) continue;
    ctx.fillStyle = colors.ink3;
    ctx.fillText(formatClock(at), left, AXIS_HEIGHT_PX / 2);
    ctx.fillStyle = colors.line;
    ctx.fillRect(left, AXIS_HEIGHT_PX - 5, 1, 5);
  }
  ctx.textAlign = "start";
}

function paintMarks(ctx: CanvasRenderingContext2D, scene: Scene, x: (at: number) => number, colors: Colors): void {
  for (const mark of scene.marks) {
    if (mark.at < scene.view.from || mark.at > scene.view.to) continue;
    ctx.fillStyle = mark.broken === true ? colors.danger : colors.ink3;
    ctx.globalAlpha = mark.broken === true ? 1 : 0.35;
    ctx.fillRect(Math.round(x(mark.at)), AXIS_HEIGHT_PX, 1, scene.height);
    ctx.globalAlpha = 1;
  }
  if (scene.cursor === null) return;
  ctx.fillStyle = colors.accent;
  ctx.fillRect(Math.round(x(scene.cursor)), AXIS_HEIGHT_PX, 1, scene.height);
}
