// The question before a job is stopped, and what the API says to it.
import type { Job } from "~/api/types";
import { Banner } from "~/components/Banner";
import { ConfirmDialog } from "~/components/dialog/ConfirmDialog";
import { useStopJob } from "~/data/queries";
import { formatPlural } from "~/format/format";

export function StopDialog({ job, onClose }: { job: Job; onClose: () => void }) {
  const stop = useStopJob();
  return (
    <ConfirmDialog
      title={`Stop ${job.name}?`}
      action={stop.isPending ? "Stopping…" : "Stop the job"}
      busy={stop.isPending}
      onConfirm={() => stop.mutate(job.id, { onSuccess: onClose })}
      onCancel={onClose}
    >
      <p>
        {formatPlural(job.worker_count, "worker")} will be asked to end at the next commit point. What is durable stays;
        a stopped job is not resumed from here.
      </p>
      {stop.isError ? (
        <div className="mt-3">
          <Banner tone="danger">{stop.error.message}</Banner>
        </div>
      ) : null}
    </ConfirmDialog>
  );
}
