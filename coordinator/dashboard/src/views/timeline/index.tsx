// The timeline view, as long as there is nothing to show in it.
import { EmptyState } from "~/components/EmptyState";
import { Page } from "~/components/Panel";

export default function TimelineView() {
  return (
    <Page>
      <EmptyState icon="timeline" title="No time has been recorded yet">
        Each worker becomes a lane here when it has joined: training, waiting for data, barriers, checkpoints, and when
        it was lost.
      </EmptyState>
    </Page>
  );
}
