// The jobs view, as long as there is nothing to show in it.
import { EmptyState } from "~/components/EmptyState";
import { Page } from "~/components/Panel";

export default function JobsView() {
  return (
    <Page>
      <EmptyState icon="jobs" title="No job has been started here yet">
        A job is one training run, started from the list of commands that the operator allows.
      </EmptyState>
    </Page>
  );
}
