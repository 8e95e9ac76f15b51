// What was registered of one dataset.
import type { Dataset } from "~/api/types";
import { Fact, Facts } from "~/components/Drawer";
import { Panel } from "~/components/Panel";
import { Age } from "~/components/time/Age";
import { formatCount } from "~/format/format";

export function DatasetFacts({ dataset }: { dataset: Dataset }) {
  return (
    <Panel title="As it was registered">
      <Facts>
        <Fact name="Id">
          <span className="font-mono text-xs">{dataset.id}</span>
        </Fact>
        <Fact name="Path">
          {dataset.path === "" ? (
            <span className="text-ink-3">none was told</span>
          ) : (
            <span className="font-mono text-xs">{dataset.path}</span>
          )}
        </Fact>
        <Fact name="Samples">
          {formatCount(dataset.total_samples)} in {formatCount(dataset.shard_count)} shards of{" "}
          {formatCount(dataset.shard_size)}
        </Fact>
        <Fact name="Order">
          {dataset.shuffle ? `shuffled in each epoch, seed ${dataset.seed}` : "as stored, not shuffled"}
        </Fact>
        <Fact name="Registered">
          <Age at={dataset.registered_at} />
        </Fact>
        {Object.entries(dataset.metadata).map(([name, value]) => (
          <Fact key={name} name={name}>
            {value}
          </Fact>
        ))}
      </Facts>
    </Panel>
  );
}
