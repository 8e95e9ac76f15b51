// Where the timeline stands, kept in the address: its length, and its end while it is paused.
import { useEffect, useState } from "react";
import { setQuery } from "~/components/filters/query";
import type { View } from "~/components/swimlane/viewport";

const LENGTH_S = 300;
/** A drag changes the view at each pixel; browsers limit how often an address may change. */
const SETTLE_MS = 400;

export interface Stand {
  lengthMs: number;
  /** Null follows the present. */
  paused: View | null;
}

function numberOf(params: URLSearchParams, name: string, least: number, most: number): number | null {
  const value = Number(params.get(name) ?? Number.NaN);
  return Number.isFinite(value) && value >= least && value <= most ? value : null;
}

export function readStand(search: string): Stand {
  const params = new URLSearchParams(search);
  const lengthMs = (numberOf(params, "span", 2, 3600) ?? LENGTH_S) * 1000;
  const to = numberOf(params, "to", 0, 8.64e15);
  return { lengthMs, paused: to === null ? null : { from: to - lengthMs, to } };
}

export function writeStand({ lengthMs, paused }: Stand): { span: string; to: string } {
  const seconds = Math.round(lengthMs / 1000);
  return {
    span: seconds === LENGTH_S ? "" : String(seconds),
    to: paused === null ? "" : String(Math.round(paused.to)),
  };
}

/** The stand that the address had when the view was opened; later changes are written to it when they have settled. */
export function useStand(): readonly [Stand, (change: Partial<Stand>) => void] {
  const [stand, setStand] = useState(() => readStand(location.search));
  useEffect(() => {
    const timer = setTimeout(() => setQuery(writeStand(stand)), SETTLE_MS);
    return () => clearTimeout(timer);
  }, [stand]);
  return [stand, (change) => setStand((before) => ({ ...before, ...change }))];
}
