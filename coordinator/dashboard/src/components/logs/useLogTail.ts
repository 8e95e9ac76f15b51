// Keeps a log's tail in step: the first page, earlier ones when they are asked for, live lines, and gaps between them.
import { useCallback, useEffect, useReducer, useRef } from "react";
import type { LogLine, LogPage } from "~/api/types";
import type { ApiClient } from "~/data/client";
import { useClient, useDashboard, useSlice } from "~/data/context";
import { addLive, addPage, EMPTY_TAIL, fillGap, type Gap, type LogFilters, type Tail } from "./tail";

const PAGE_LINES = 500;
const GAP_LINES = 2_000;

interface State {
  /** Of the log and the filters that the tail is of; what comes for another is dropped. */
  key: string;
  tail: Tail;
  /** What was shown before, until the first page of the new filters is there. */
  previous: Tail | null;
  loading: boolean;
  error: unknown;
}

type Action =
  | { type: "begin"; key: string }
  | { type: "asking"; key: string }
  | { type: "page"; key: string; page: LogPage }
  | { type: "failed"; key: string; error: unknown }
  | { type: "live"; lines: readonly LogLine[]; filters: LogFilters }
  | { type: "filled"; key: string; gap: Gap; page: LogPage };

const START: State = { key: "", tail: EMPTY_TAIL, previous: null, loading: true, error: null };

function reduce(state: State, action: Action): State {
  if (action.type === "begin") {
    const previous = state.tail.loaded ? state.tail : state.previous;
    return { key: action.key, tail: EMPTY_TAIL, previous, loading: true, error: null };
  }
  if (action.type === "live") {
    const tail = addLive(state.tail, action.lines, action.filters);
    return tail === state.tail ? state : { ...state, tail };
  }
  if (action.key !== state.key) return state;
  switch (action.type) {
    case "asking":
      return { ...state, loading: true, error: null };
    case "page":
      return { ...state, tail: addPage(state.tail, action.page), previous: null, loading: false, error: null };
    case "failed":
      return { ...state, previous: null, loading: false, error: action.error };
    case "filled":
      return { ...state, tail: fillGap(state.tail, action.gap, action.page) };
  }
}

export function logQuery({ level, source, search }: LogFilters) {
  return { level, source, search };
}

export interface LogTail {
  tail: Tail;
  loading: boolean;
  error: unknown;
  loadEarlier: () => void;
  retry: () => void;
}

const NO_LINES: readonly LogLine[] = [];

/** The log of all processes. */
export function useLogTail(filters: LogFilters): LogTail {
  const client = useClient();
  // Another life of the API numbers its lines anew.
  const life = useDashboard((state) => state?.life ?? "");
  const live = useSlice("logs") ?? NO_LINES;
  const key = JSON.stringify([life, filters]);
  const [state, dispatch] = useReducer(reduce, START);
  const { tail } = state;
  const wanted = useRef(filters);
  wanted.current = filters;

  const ask = useCallback(
    (before: number | null, signal?: AbortSignal) =>
      askPage(client, wanted.current, PAGE_LINES, before, signal).then(
        (page) => dispatch({ type: "page", key, page }),
        (error: unknown) => {
          if (!signal?.aborted) dispatch({ type: "failed", key, error });
        },
      ),
    [client, key],
  );

  useEffect(() => {
    const abort = new AbortController();
    dispatch({ type: "begin", key });
    void ask(null, abort.signal);
    return () => abort.abort();
  }, [key, ask]);

  // Live lines wait for the first page: it says up to which number everything is known.
  const loaded = tail.loaded && state.key === key;
  useEffect(() => {
    if (loaded) dispatch({ type: "live", lines: live, filters: wanted.current });
  }, [live, loaded]);

  const { gap } = tail;
  useEffect(() => {
    if (gap === null) return;
    const abort = new AbortController();
    askPage(client, wanted.current, GAP_LINES, gap.before, abort.signal).then(
      (page) => dispatch({ type: "filled", key, gap, page }),
      // The next live message that is too much asks again.
      () => {},
    );
    return () => abort.abort();
  }, [client, key, gap]);

  return {
    tail: state.previous ?? tail,
    loading: state.loading,
    error: state.error,
    loadEarlier: () => {
      if (state.loading || tail.before === null) return;
      dispatch({ type: "asking", key });
      void ask(tail.before);
    },
    retry: () => {
      dispatch({ type: "asking", key });
      void ask(tail.lines.length === 0 ? null : tail.before);
    },
  };
}

function askPage(
  client: ApiClient,
  filters: LogFilters,
  limit: number,
  before: number | null,
  signal?: AbortSignal,
): Promise<LogPage> {
  const options = { query: { ...logQuery(filters), limit, before } };
  return client.get<LogPage>("/api/logs", signal === undefined ? options : { ...options, signal });
}
