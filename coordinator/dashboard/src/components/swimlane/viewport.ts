// What stretch of time and which lanes a swimlane shows, and how keys, wheels and drags change that. It draws nothing.
import type { Span } from "./kinds";

export interface View {
  /** Unix milliseconds. */
  from: number;
  to: number;
}

export interface Bounds {
  /** The earliest moment that is known. */
  from: number;
  /** Now. */
  to: number;
}

export const SPAN_MIN_MS = 2_000;

/** A view inside of the bounds, of the same length where it fits. */
export function clampView(view: View, bounds: Bounds): View {
  const most = Math.max(bounds.to - bounds.from, SPAN_MIN_MS);
  const length = Math.min(Math.max(view.to - view.from, SPAN_MIN_MS), most);
  const to = Math.min(Math.max(view.from + length, bounds.from + length), Math.max(bounds.to, bounds.from + length));
  return { from: to - length, to };
}

export function panView(view: View, byMs: number, bounds: Bounds): View {
  return clampView({ from: view.from + byMs, to: view.to + byMs }, bounds);
}

/** Longer (factor above 1) or shorter, around the moment that stays in its place. */
export function zoomView(view: View, factor: number, around: number, bounds: Bounds): View {
  const length = Math.max((view.to - view.from) * factor, SPAN_MIN_MS);
  const part = (around - view.from) / (view.to - view.from);
  const from = around - part * length;
  return clampView({ from, to: from + length }, bounds);
}

/** The same length, ending now. */
export function followView(view: View, bounds: Bounds): View {
  return clampView({ from: bounds.to - (view.to - view.from), to: bounds.to }, bounds);
}

/** The index of the first span that ends after a moment: spans are in order, so half of them are skipped at each look. */
export function firstSpan(spans: readonly Span[], moment: number): number {
  let low = 0;
  let high = spans.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const span = spans[middle];
    if (span !== undefined && span.to <= moment) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The span at a moment, if there is one. */
export function spanAt(spans: readonly Span[], moment: number): Span | null {
  const span = spans[firstSpan(spans, moment)];
  return span !== undefined && span.from <= moment ? span : null;
}

const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];

/** Round moments for the axis, about `count` of them. */
export function ticks(view: View, count: number): number[] {
  const wished = (view.to - view.from) / 1000 / Math.max(count, 1);
  const step = (STEPS_S.find((seconds) => seconds >= wished) ?? 86_400) * 1000;
  const found: number[] = [];
  for (let at = Math.ceil(view.from / step) * step; at <= view.to; at += step) found.push(at);
  return found;
}
