// The functions view, as long as there is nothing to show in it.
import { EmptyState } from "~/components/EmptyState";
import { Page } from "~/components/Panel";

export default function FunctionsView() {
  return (
    <Page>
      <EmptyState icon="functions" title="No function has been called yet">
        Register a function with the API or an executor. Queues, rates and failures show here while a dispatcher runs.
      </EmptyState>
    </Page>
  );
}
