// The activity view, as long as there is nothing to show in it.
import { EmptyState } from "~/components/EmptyState";
import { Page } from "~/components/Panel";

export default function ActivityView() {
  return (
    <Page>
      <EmptyState icon="activity" title="Nothing has happened yet">
        Joins, losses, rebalances, commits and restarts are listed here as they happen.
      </EmptyState>
    </Page>
  );
}
