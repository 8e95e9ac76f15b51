// The checkpoints view, as long as there is nothing to show in it.
import { EmptyState } from "~/components/EmptyState";
import { Page } from "~/components/Panel";

export default function CheckpointsView() {
  return (
    <Page>
      <EmptyState icon="checkpoints" title="No checkpoint has been written yet">
        save_checkpoint() writes one. It is listed when the coordinator has committed it.
      </EmptyState>
    </Page>
  );
}
