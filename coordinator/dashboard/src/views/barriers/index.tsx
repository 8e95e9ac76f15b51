// The barriers view, as long as there is nothing to show in it.
import { EmptyState } from "~/components/EmptyState";
import { Page } from "~/components/Panel";

export default function BarriersView() {
  return (
    <Page>
      <EmptyState icon="barriers" title="No barrier has been reached yet">
        A barrier is listed from its first arrival on, with who came last and how late.
      </EmptyState>
    </Page>
  );
}
