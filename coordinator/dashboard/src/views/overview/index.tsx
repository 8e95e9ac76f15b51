// The overview: whether the job is healthy, how fast it goes, what just happened, and who is late.
import { EmptyState, Loading } from "~/components/EmptyState";
import { Page } from "~/components/Panel";
import { useDashboard } from "~/data/context";
import { Alerts } from "./Alerts";
import { Happened } from "./Happened";
import { Health } from "./Health";
import { Late } from "./Late";
import { States, TimeSpent } from "./Shares";
import { Throughput } from "./Throughput";

export default function OverviewView() {
  const loaded = useDashboard((state) => state !== null);
  const waiting = useDashboard((state) => state?.coordinator.source === "waiting");
  if (!loaded) return <Loading label="Loading the overview" rows={8} />;
  if (waiting) return <NoCoordinator />;
  return (
    <Page>
      <Health />
      <Alerts />
      <div className="grid gap-3 lg:grid-cols-2">
        <TimeSpent />
        <States />
      </div>
      <Throughput />
      <div className="grid items-start gap-3 lg:grid-cols-2">
        <Happened />
        <Late />
      </div>
    </Page>
  );
}

function NoCoordinator() {
  const address = useDashboard((state) => state?.coordinator.address ?? "");
  return (
    <Page>
      <EmptyState icon="overview" title="No coordinator has been heard yet">
        {address === "" ? "The API follows none." : <>The API asks {address} and gets no answer.</>} Start a job with{" "}
        <code className="font-mono text-xs">strata run train.py</code>, or look at simulated data with{" "}
        <code className="font-mono text-xs">strata demo</code>. This page goes on by itself.
      </EmptyState>
      <Alerts />
    </Page>
  );
}
