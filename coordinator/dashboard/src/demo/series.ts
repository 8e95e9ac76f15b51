// The simulated past: one value a second of each series, an hour of them.
import type { History } from "~/api/types";
import { SERIES, type SeriesName } from "~/data/series";
import { HOUR_S } from "./fleet";

export type Values = Record<SeriesName, number | null>;

export class Series {
  readonly #rings = new Map(SERIES.map((name) => [name, new Float64Array(HOUR_S).fill(Number.NaN)]));
  /** The last second that was told, and its values. */
  last: Values | null = null;

  tell(second: number, values: Values): void {
    for (const [name, ring] of this.#rings) ring[second % HOUR_S] = values[name] ?? Number.NaN;
    this.last = values;
  }

  /** The values of `seconds` seconds up to and without second `end`; `start` is the time of the first. */
  history(seconds: number, end: number, start: number): History {
    const series: Record<string, (number | null)[]> = {};
    for (const [name, ring] of this.#rings) {
      series[name] = Array.from({ length: seconds }, (_, index) => {
        const second = end - seconds + index;
        const value = second < 0 ? Number.NaN : (ring[second % HOUR_S] ?? Number.NaN);
        return Number.isNaN(value) ? null : value;
      });
    }
    return { start, step_s: 1, series };
  }
}
