// The overview view, as long as there is nothing to show in it.
import { EmptyState } from "~/components/EmptyState";
import { Page } from "~/components/Panel";

export default function OverviewView() {
  return (
    <Page>
      <EmptyState icon="overview" title="No data yet">
        The overview fills when the coordinator has answered and a worker has joined. Start one with strata run, or look
        at simulated data with strata demo.
      </EmptyState>
    </Page>
  );
}
