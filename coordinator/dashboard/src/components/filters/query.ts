// What a view keeps in its address: filters in the query string, the row that is open in the path.
import { useDeferredValue } from "react";
import { navigate, useLocationProperty, usePathname } from "wouter/use-browser-location";

/** Sets or removes (with "") some parameters of the address that is open now; the others stay. */
export function setQuery(changes: Readonly<Record<string, string>>, { replace = true } = {}): void {
  const params = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    if (value === "") params.delete(name);
    else params.set(name, value);
  }
  const next = withParams(location.pathname, params);
  if (next !== location.pathname + location.search) navigate(next, { replace });
}

function withParams(path: string, params: URLSearchParams): string {
  const text = params.toString();
  return text === "" ? path : `${path}?${text}`;
}

/** One parameter of the address, "" where it is missing, and how to change it. Changes of others draw nothing anew. */
export function useQueryParam(name: string): readonly [string, (value: string) => void] {
  const value = useLocationProperty(() => new URLSearchParams(location.search).get(name) ?? "");
  return [value, (next) => setQuery({ [name]: next })];
}

/** What is searched for: at once for the field it is typed into, and a little later for the rows that it filters. */
export function useQuerySearch(): readonly [text: string, set: (text: string) => void, deferred: string] {
  const [text, set] = useQueryParam("q");
  return [text, set, useDeferredValue(text)];
}

/** A parameter that takes a few words only; any other word is the first of them, and that one is not written down. */
export function useQueryChoice<T extends string>(
  name: string,
  choices: readonly [T, ...T[]],
): readonly [T, (value: T) => void] {
  const [text, set] = useQueryParam(name);
  const value = choices.find((choice) => choice === text) ?? choices[0];
  return [value, (next) => set(next === choices[0] ? "" : next)];
}

/** A parameter that is a whole number that is not negative; null where it is missing or is something else. */
export function useQueryNumber(name: string): readonly [number | null, (value: number | null) => void] {
  const [text, set] = useQueryParam(name);
  const value = /^\d{1,16}$/.test(text) ? Number(text) : null;
  return [value, (next) => set(next === null ? "" : String(Math.round(next)))];
}

/** The id behind a view's path: `/checkpoints/step%201` is "step 1"; null where the path has none. */
export function idInPath(base: string, pathname: string): string | null {
  if (!pathname.startsWith(`${base}/`)) return null;
  const segment = pathname.slice(base.length + 1);
  try {
    return segment === "" ? null : decodeURIComponent(segment);
  } catch {
    // A broken escape is no id of ours; as it stands it names nothing.
    return segment;
  }
}

/** The row that is open, by the path, and how to open another or (with null) none; the filters stay. */
export function useOpenRow(base: string): readonly [string | null, (id: string | null) => void] {
  const id = idInPath(base, usePathname());
  const open = (next: string | null) => {
    const path = next === null ? base : `${base}/${encodeURIComponent(next)}`;
    navigate(path + location.search, { replace: id !== null && next !== null });
  };
  return [id, open];
}
