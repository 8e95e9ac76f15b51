// The data view: every dataset, who holds its shards, how far its epochs are, and what the rebalances moved.
import type { Dataset } from "~/api/types";
import { EmptyState, Loading } from "~/components/EmptyState";
import { FilterBar, SearchField, shownOf } from "~/components/filters/Filters";
import { useOpenRow, useQuerySearch } from "~/components/filters/query";
import { listHeight } from "~/components/listing/listing";
import { Page, Panel } from "~/components/Panel";
import { DataTable } from "~/components/table/DataTable";
import { searchRows } from "~/components/table/order";
import { useSlice } from "~/data/context";
import { formatCount } from "~/format/format";
import { DATASET_COLUMNS } from "./columns";
import { DatasetFacts } from "./DatasetFacts";
import { Epochs } from "./Epochs";
import { Rebalances } from "./Rebalances";
import { Shards } from "./Shards";

export default function DatasetsView() {
  const datasets = useSlice("datasets");
  const [text, setText, search] = useQuerySearch();
  const [id, open] = useOpenRow("/data");
  if (datasets === undefined) return <Loading label="Loading datasets" />;
  const shown = searchRows(datasets, DATASET_COLUMNS, search);
  const dataset = id === null ? datasets[0] : datasets.find((one) => one.id === id);
  return (
    <Page>
      {datasets.length === 0 ? (
        <Panel title="Datasets">
          <NoDatasets />
        </Panel>
      ) : (
        <>
          <FilterBar status={shownOf(shown.length, datasets.length, "dataset")}>
            <SearchField label="Search datasets" value={text} onChange={setText} />
          </FilterBar>
          <Panel title="Datasets" flush>
            <DataTable
              label="Datasets"
              rows={datasets}
              columns={DATASET_COLUMNS}
              rowKey={(row) => row.id}
              search={search}
              onOpen={(row) => open(row.id)}
              openKey={dataset?.id ?? null}
              height={listHeight(shown.length, 6)}
            />
          </Panel>
          {dataset === undefined ? <NoSuchDataset id={id ?? ""} datasets={datasets} /> : <OneDataset of={dataset} />}
        </>
      )}
      <Rebalances />
    </Page>
  );
}

function OneDataset({ of }: { of: Dataset }) {
  return (
    <div className="grid gap-3 xl:grid-cols-2">
      <Shards dataset={of} />
      <div className="flex min-w-0 flex-col gap-3">
        <Epochs dataset={of} />
        <DatasetFacts dataset={of} />
      </div>
    </div>
  );
}

function NoDatasets() {
  return (
    <EmptyState icon="data" title="No dataset is registered yet">
      <p>
        A worker registers one with <code className="font-mono text-xs">register_dataset()</code>. Its shards, the
        progress of its epochs and every rebalance then show here.
      </p>
    </EmptyState>
  );
}

function NoSuchDataset({ id, datasets }: { id: string; datasets: readonly Dataset[] }) {
  return (
    <Panel title={`Dataset ${id}`}>
      <EmptyState icon="question" title="There is no such dataset">
        {formatCount(datasets.length)} {datasets.length === 1 ? "dataset is" : "datasets are"} registered; choose one in
        the table above. This one may belong to another job, or to an earlier one.
      </EmptyState>
    </Panel>
  );
}
