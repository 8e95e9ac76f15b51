// What goes wrong in the demo, and when: a plan by the second, the same each time. It changes nothing.

export const TROUBLES = ["hang", "abort", "slow", "lost"] as const;
export type Trouble = (typeof TROUBLES)[number];

/** One trouble begins in each cycle of this many seconds, at this second of it. */
const CYCLE_S = 90;
const BEGINS_S = 70;
/** How long each lasts, until everything is as before. */
export const LASTS_S: Record<Trouble, number> = { hang: 40, abort: 25, slow: 25, lost: 18 };

export interface Incident {
  trouble: Trouble;
  /** Seconds since it began. */
  age: number;
  /** Rises with each incident: who it happens to is made of it. */
  number: number;
}

/** The incident of second `second` of the demo, or null while all is well. */
export function incidentAt(second: number): Incident | null {
  const since = second - BEGINS_S;
  if (since < 0) return null;
  const number = Math.floor(since / CYCLE_S);
  const age = since % CYCLE_S;
  const trouble = TROUBLES[number % TROUBLES.length] ?? "slow";
  return age < LASTS_S[trouble] ? { trouble, age, number } : null;
}

export type Hold = Trouble | "none" | "gone";

/** The same for a demo that is held in one state from second `from` on: for ever in that trouble, or in none. */
export function heldAt(second: number, hold: Hold, from: number): Incident | null {
  if (hold === "none" || hold === "gone" || second < from) return null;
  const stays = { hang: 20, abort: 0, slow: 20, lost: 10 }[hold];
  return { trouble: hold, age: Math.min(second - from, stays), number: 1 };
}
