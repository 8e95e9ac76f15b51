// Percentiles and rates of the simulator.

/** The value that a share `share` of rising `sorted` does not exceed; null of none. */
export function percentile(sorted: readonly number[] | Float64Array, share: number): number | null {
  if (sorted.length === 0) return null;
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? sorted[0] ?? null;
}

export function rounded(value: number | null, digits = 2): number | null {
  return value === null ? null : Number(value.toFixed(digits));
}

/** How fast a total rises: its change over the last seconds it was told for. */
export class Rate {
  readonly #totals: number[] = [];
  readonly #seconds: number;

  constructor(seconds = 10) {
    this.#seconds = seconds;
  }

  /** Takes the total as of the next second. */
  tell(total: number): void {
    this.#totals.push(total);
    if (this.#totals.length > this.#seconds + 1) this.#totals.shift();
  }

  /** Per second; null before there are two. */
  get perSecond(): number | null {
    const [first] = this.#totals;
    const last = this.#totals.at(-1);
    if (first === undefined || last === undefined || this.#totals.length < 2) return null;
    return (last - first) / (this.#totals.length - 1);
  }
}
