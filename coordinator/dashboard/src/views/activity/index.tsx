// The activity view: everything that happened and why, beside the charts of the same time, each event at its own
// address.
import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import type { Event } from "~/api/types";
import { Button } from "~/components/Button";
import { EmptyState, ErrorState, Loading } from "~/components/EmptyState";
import { FilterBar, SearchField, Segments, Select, shownOf } from "~/components/filters/Filters";
import { setQuery, useQueryChoice, useQueryNumber, useQueryParam, useQuerySearch } from "~/components/filters/query";
import { Page, Panel } from "~/components/Panel";
import { useClient, useSlice } from "~/data/context";
import { formatClock, formatMoment } from "~/format/format";
import { Charts } from "./Charts";
import { EventTable } from "./EventTable";
import { type EventFilters, joinEvents, kindCounts, LEVEL_FILTERS, nearest, passes } from "./events";

const LEVEL_LABELS = { all: "All", warning: "Warnings and errors", error: "Errors" };
/** As many as the API gives at once. */
const OLDER_MAX = 10_000;
const NONE: readonly Event[] = [];

/** The events that came live, with those before them: they are asked for once. */
function useEvents() {
  const client = useClient();
  const live = useSlice("events");
  const older = useQuery({
    queryKey: ["/api/activity"],
    queryFn: ({ signal }) => client.get<readonly Event[]>("/api/activity", { query: { limit: OLDER_MAX }, signal }),
    staleTime: Number.POSITIVE_INFINITY,
    refetchOnWindowFocus: false,
  });
  const events = useMemo(() => joinEvents(older.data ?? NONE, live ?? NONE), [older.data, live]);
  return { events, loading: live === undefined && older.isPending, older };
}

export default function ActivityView() {
  const { events, loading, older } = useEvents();
  const [text, setText, search] = useQuerySearch();
  const [kind, setKind] = useQueryParam("kind");
  const [level, setLevel] = useQueryChoice("level", LEVEL_FILTERS);
  const [worker] = useQueryParam("worker");
  const [from] = useQueryNumber("from");
  const [to] = useQueryNumber("to");
  const [at] = useQueryNumber("at");
  const filters: EventFilters = useMemo(
    () => ({ kind, level, worker, search, from, to }),
    [kind, level, worker, search, from, to],
  );
  const shown = useMemo(() => events.filter((event) => passes(event, filters)), [events, filters]);
  const kinds = useMemo(() => kindCounts(events), [events]);
  if (loading) return <Loading label="Loading events" rows={10} />;
  if (events.length === 0) return older.isError ? <Failed error={older.error} again={older.refetch} /> : <NoEvents />;
  const chosen = at === null ? -1 : nearest(shown, at);
  return (
    <Page fill>
      <Charts events={shown} at={at} range={from === null || to === null ? null : { from, to }} />
      <FilterBar status={shownOf(shown.length, events.length, "event")}>
        <SearchField label="Search events" value={text} onChange={setText} />
        <Segments
          label="Least level"
          options={LEVEL_FILTERS.map((value) => ({ value, label: LEVEL_LABELS[value] }))}
          value={level}
          onChange={setLevel}
        />
        <Select
          label="Kind"
          options={[
            { value: "", label: "all" },
            ...kinds.map((one) => ({ value: one.kind, label: one.word, count: one.count })),
          ]}
          value={kind}
          onChange={setKind}
        />
        <Chips from={from} to={to} worker={worker} at={at} />
      </FilterBar>
      <Panel title="Events" hint={hintOf(older.isError)} flush className="min-h-72 flex-1">
        <EventTable events={shown} chosen={chosen} />
      </Panel>
    </Page>
  );
}

function hintOf(failed: boolean): string {
  return failed ? "newest first; earlier ones could not be read" : "newest first";
}

interface ChipsProps {
  from: number | null;
  to: number | null;
  worker: string;
  at: number | null;
}

/** What else of the address narrows the list, each with a button that takes it away. */
function Chips({ from, to, worker, at }: ChipsProps) {
  const stretch = [from, to].map((moment) => (moment === null ? "" : formatClock(moment))).join(" to ");
  return (
    <>
      {from === null && to === null ? null : (
        <Button icon="close" onClick={() => setQuery({ from: "", to: "" })}>
          {stretch.trim()}
        </Button>
      )}
      {worker === "" ? null : (
        <Button icon="close" onClick={() => setQuery({ worker: "" })}>
          {worker}
        </Button>
      )}
      {at === null ? null : (
        <Button icon="close" title={formatMoment(at)} onClick={() => setQuery({ at: "" })}>
          at {formatClock(at)}
        </Button>
      )}
    </>
  );
}

function Failed({ error, again }: { error: unknown; again: () => void }) {
  return (
    <Page>
      <Panel title="Events">
        <ErrorState title="The events could not be read" error={error} onRetry={again} />
      </Panel>
    </Page>
  );
}

function NoEvents() {
  return (
    <Page>
      <Panel title="Events">
        <EmptyState icon="activity" title="Nothing has happened yet">
          Workers that join or are lost, generations, epochs, checkpoints and hangs stand here with their reasons, as
          soon as the coordinator tells of them.
        </EmptyState>
      </Panel>
    </Page>
  );
}
