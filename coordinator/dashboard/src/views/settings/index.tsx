// The settings view, as long as there is nothing to show in it.
import { EmptyState } from "~/components/EmptyState";
import { Page } from "~/components/Panel";

export default function SettingsView() {
  return (
    <Page>
      <EmptyState icon="settings" title="The configuration is not known yet">
        Each setting is listed with its value and where that came from once the coordinator has answered.
      </EmptyState>
    </Page>
  );
}
