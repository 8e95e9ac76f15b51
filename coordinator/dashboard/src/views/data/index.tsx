// The data view, as long as there is nothing to show in it.
import { EmptyState } from "~/components/EmptyState";
import { Page } from "~/components/Panel";

export default function DatasetsView() {
  return (
    <Page>
      <EmptyState icon="data" title="No dataset is registered yet">
        register_dataset() tells the coordinator of one. Its shards, its progress and every rebalance then show here.
      </EmptyState>
    </Page>
  );
}
