// The workers view: every worker by state, search and order; one of them in full beside the table.
import { useMemo } from "react";
import { EmptyState, Loading } from "~/components/EmptyState";
import { ExportButton } from "~/components/ExportButton";
import { tableCsv } from "~/components/export";
import { FilterBar, SearchField, shownOf } from "~/components/filters/Filters";
import { useOpenRow, useQueryParam, useQuerySearch } from "~/components/filters/query";
import { ToggleGroup } from "~/components/filters/ToggleGroup";
import { Page, Panel } from "~/components/Panel";
import { DataTable } from "~/components/table/DataTable";
import { type Sort, searchRows } from "~/components/table/order";
import { useSlice } from "~/data/context";
import { WORKER_COLUMNS } from "./columns";
import { WorkerDrawer } from "./WorkerDrawer";
import { passes, readStates, stateOptions, writeStates } from "./workers";

/** "-heard" is by when it was heard, the newest first. */
function readSort(text: string): Sort | null {
  const descending = text.startsWith("-");
  const column = descending ? text.slice(1) : text;
  return WORKER_COLUMNS.some(({ id }) => id === column) ? { column, descending } : null;
}

const writeSort = (sort: Sort | null) => (sort === null ? "" : `${sort.descending ? "-" : ""}${sort.column}`);

export default function WorkersView() {
  const workers = useSlice("workers");
  const [search, setSearch, wanted] = useQuerySearch();
  const [stateText, setStateText] = useQueryParam("state");
  const [sortText, setSortText] = useQueryParam("sort");
  const [id, open] = useOpenRow("/workers");
  const states = useMemo(() => readStates(stateText), [stateText]);
  const sort = useMemo(() => readSort(sortText), [sortText]);
  const rows = useMemo(() => (workers ?? []).filter((worker) => passes(worker, states)), [workers, states]);
  const shown = useMemo(() => searchRows(rows, WORKER_COLUMNS, wanted), [rows, wanted]);
  const options = useMemo(() => stateOptions(workers ?? [], states), [workers, states]);
  if (workers === undefined) return <Loading label="Loading workers" rows={8} />;
  return (
    <Page fill>
      {workers.length === 0 ? (
        <NoWorkers />
      ) : (
        <>
          <FilterBar status={shownOf(shown.length, workers.length, "worker")}>
            <SearchField label="Search workers" value={search} onChange={setSearch} />
            <ToggleGroup
              label="States"
              options={options}
              chosen={states}
              onChange={(next) => setStateText(writeStates(next))}
            />
            <ExportButton
              name="workers"
              csv={() => tableCsv(WORKER_COLUMNS, shown)}
              json={() => shown}
              disabled={shown.length === 0}
            />
          </FilterBar>
          <Panel title="Workers" hint="by rank; a header sorts, Enter opens a row" flush className="min-h-72 flex-1">
            <DataTable
              label="Workers"
              rows={shown}
              columns={WORKER_COLUMNS}
              rowKey={(row) => row.id}
              sort={sort}
              onSortChange={(next) => setSortText(writeSort(next))}
              onOpen={(row) => open(row.id)}
              openKey={id}
              empty={
                <p className="px-4 py-10 text-center text-ink-2">
                  No worker is so. Choose other states, or search for less.
                </p>
              }
            />
          </Panel>
        </>
      )}
      {id === null ? null : <WorkerDrawer id={id} onClose={() => open(null)} />}
    </Page>
  );
}

function NoWorkers() {
  return (
    <Panel title="Workers">
      <EmptyState icon="workers" title="No worker has joined yet">
        A worker appears when it has said hello to the coordinator:{" "}
        <code className="font-mono text-xs">strata run train.py</code> starts some, and{" "}
        <code className="font-mono text-xs">WorkerMixin</code> joins from a script of your own.
      </EmptyState>
    </Panel>
  );
}
