// The epochs of a dataset as rows: the one that runs first, then those with a certificate, newest first.
import type { Certificate, Dataset } from "~/api/types";

export interface EpochRow {
  epoch: number;
  samples: number;
  total: number;
  /** Decimal text; empty while the epoch runs. */
  checksum: string;
  state: "running" | "complete" | "incomplete";
}

/** An epoch that has its certificate is finished, even while the dataset's row still names it. */
export function epochRows(dataset: Dataset, certificates: readonly Certificate[]): readonly EpochRow[] {
  const finished = certificates
    .filter((one) => one.dataset_id === dataset.id)
    .map(
      (one): EpochRow => ({
        epoch: one.epoch,
        samples: one.samples,
        total: one.total_samples,
        checksum: one.checksum,
        state: one.complete ? "complete" : "incomplete",
      }),
    )
    .sort((a, b) => b.epoch - a.epoch);
  if (finished.some((row) => row.epoch === dataset.epoch)) return finished;
  const running: EpochRow = {
    epoch: dataset.epoch,
    samples: dataset.committed_samples,
    total: dataset.total_samples,
    checksum: "",
    state: "running",
  };
  return [running, ...finished];
}
