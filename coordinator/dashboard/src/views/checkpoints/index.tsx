// The checkpoints view: what is durable, how long each took and where its time went, and who is awaited.
import type { Checkpoint } from "~/api/types";
import { EmptyState, Loading } from "~/components/EmptyState";
import { FilterBar, SearchField, Segments, shownOf } from "~/components/filters/Filters";
import { useOpenRow, useQueryChoice, useQuerySearch } from "~/components/filters/query";
import { Page, Panel } from "~/components/Panel";
import { DataTable } from "~/components/table/DataTable";
import { searchRows } from "~/components/table/order";
import { useSlice } from "~/data/context";
import { CheckpointDrawer } from "./CheckpointDrawer";
import { CheckpointTiles } from "./CheckpointTiles";
import { FILTERS, type Filter, passes } from "./checkpoints";
import { CHECKPOINT_COLUMNS } from "./columns";
import { Strip } from "./Strip";

const LABELS: Record<Filter, string> = {
  all: "All",
  durable: "Durable",
  writing: "Writing",
  aborted: "Aborted",
  unverified: "Not verified",
  damaged: "Damaged",
};

export default function CheckpointsView() {
  const checkpoints = useSlice("checkpoints");
  const [text, setText, search] = useQuerySearch();
  const [filter, setFilter] = useQueryChoice("show", FILTERS);
  const [id, open] = useOpenRow("/checkpoints");
  if (checkpoints === undefined) return <Loading label="Loading checkpoints" />;
  if (checkpoints.length === 0) return <NoCheckpoints />;
  const rows = checkpoints.filter((one) => passes(one, filter));
  const shown = searchRows(rows, CHECKPOINT_COLUMNS, search);
  const options = FILTERS.map((value) => ({ value, label: LABELS[value], count: count(checkpoints, value) })).filter(
    (option) => option.count > 0 || option.value === "all" || option.value === filter,
  );
  return (
    <Page fill>
      <CheckpointTiles checkpoints={checkpoints} />
      <Strip checkpoints={checkpoints} openId={id} onOpen={open} />
      <FilterBar status={shownOf(shown.length, checkpoints.length, "checkpoint")}>
        <SearchField label="Search checkpoints" value={text} onChange={setText} />
        <Segments label="Show" options={options} value={filter} onChange={setFilter} />
      </FilterBar>
      <Panel title="Checkpoints" hint="newest first" flush className="min-h-72 flex-1">
        <DataTable
          label="Checkpoints"
          rows={rows}
          columns={CHECKPOINT_COLUMNS}
          rowKey={(row) => row.id}
          search={search}
          onOpen={(row) => open(row.id)}
          openKey={id}
        />
      </Panel>
      {id === null ? null : <CheckpointDrawer id={id} onClose={() => open(null)} />}
    </Page>
  );
}

function count(checkpoints: readonly Checkpoint[], filter: Filter): number {
  return checkpoints.reduce((sum, one) => sum + (passes(one, filter) ? 1 : 0), 0);
}

function NoCheckpoints() {
  return (
    <Page>
      <Panel title="Checkpoints">
        <EmptyState icon="checkpoints" title="Nothing has been saved yet">
          The job saves with <code className="font-mono text-xs">save_checkpoint()</code>. Each checkpoint then shows
          here: when it became durable, how large it is, where its time went, and which ranks are still awaited.
        </EmptyState>
      </Panel>
    </Page>
  );
}
