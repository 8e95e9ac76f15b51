// The workers view, as long as there is nothing to show in it.
import { EmptyState } from "~/components/EmptyState";
import { Page } from "~/components/Panel";

export default function WorkersView() {
  return (
    <Page>
      <EmptyState icon="workers" title="No worker has joined yet">
        A worker appears when it has said hello to the coordinator: strata run starts some, and WorkerMixin joins from
        your own script.
      </EmptyState>
    </Page>
  );
}
