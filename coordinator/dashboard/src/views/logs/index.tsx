// The logs view, as long as there is nothing to show in it.
import { EmptyState } from "~/components/EmptyState";
import { Page } from "~/components/Panel";

export default function LogsView() {
  return (
    <Page>
      <EmptyState icon="logs" title="No line has been logged yet">
        The processes of this job send what they log while they are connected.
      </EmptyState>
    </Page>
  );
}
