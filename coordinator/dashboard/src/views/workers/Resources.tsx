// What a worker's process uses, and each of its GPUs, as its last heartbeat that told it.
import type { Worker } from "~/api/types";
import { Fact, Facts } from "~/components/Drawer";
import { Progress } from "~/components/listing/Progress";
import { formatBytes, formatCount, formatRate } from "~/format/format";
import { Value } from "~/format/Value";
import { type Gpu, gpus } from "./workers";

const percentText = (percent: number) => `${formatCount(percent)} %`;

export function Resources({ worker }: { worker: Worker }) {
  const { usage } = worker;
  return (
    <div className="flex flex-col gap-3">
      <Facts>
        <Fact name="Samples">
          <Value
            of={worker.samples_per_s}
            format={(rate) => formatRate(rate)}
            unknown={worker.lost_reason === "" ? "it does not report samples" : "it is lost"}
          />
          {worker.samples === null ? "" : `, ${formatCount(worker.samples)} in all`}
        </Fact>
        {usage === null ? (
          <Fact name="Process">
            <Value of={null} format={String} unknown="it has not reported what it uses" />{" "}
            <span className="text-ink-3">not measured</span>
          </Fact>
        ) : (
          <>
            <Fact name="CPU">{percentText(usage.cpu_percent)} of one core</Fact>
            <Fact name="Memory">
              <span className="flex items-center gap-3">
                <span className="whitespace-nowrap">
                  {formatBytes(usage.memory_bytes)}
                  {worker.memory_bytes > 0 ? ` of ${formatBytes(worker.memory_bytes)}` : ""}
                </span>
                {worker.memory_bytes > 0 ? <Progress share={usage.memory_bytes / worker.memory_bytes} /> : null}
              </span>
            </Fact>
            <Fact name="Disk">
              {formatBytes(usage.disk_read_bytes)} read, {formatBytes(usage.disk_write_bytes)} written
            </Fact>
            <Fact name="Network">
              {formatBytes(usage.network_received_bytes)} received, {formatBytes(usage.network_sent_bytes)} sent by its
              whole host
            </Fact>
          </>
        )}
      </Facts>
      <Gpus worker={worker} />
    </div>
  );
}

function Gpus({ worker }: { worker: Worker }) {
  const rows = gpus(worker);
  if (rows.length === 0) return <p className="text-sm text-ink-3">It has no GPU.</p>;
  return (
    <table className="w-full text-sm">
      <caption className="sr-only">GPUs of {worker.id}</caption>
      <thead>
        <tr className="text-left text-xs text-ink-3">
          <th scope="col" className="pb-1 font-medium">
            GPU
          </th>
          <th scope="col" className="w-1/2 pb-1 font-medium">
            Busy
          </th>
          <th scope="col" className="pb-1 text-right font-medium">
            Memory
          </th>
          <th scope="col" className="pb-1 text-right font-medium">
            Temperature
          </th>
        </tr>
      </thead>
      <tbody>
        {rows.map((gpu) => (
          <GpuRow key={gpu.id} gpu={gpu} />
        ))}
      </tbody>
    </table>
  );
}

function GpuRow({ gpu }: { gpu: Gpu }) {
  return (
    <tr className="border-t border-line">
      <th scope="row" className="py-1 text-left font-normal text-ink-2">
        {gpu.id}
      </th>
      <td className="py-1">
        <span className="flex items-center gap-3">
          <span className="w-11">
            <Value of={gpu.percent} format={percentText} />
          </span>
          {gpu.percent === null ? null : <Progress share={gpu.percent / 100} token="series-2" />}
        </span>
      </td>
      <td className="py-1 text-right">
        <Value of={gpu.memory_bytes} format={formatBytes} />
      </td>
      <td className="py-1 text-right">
        <Value of={gpu.celsius} format={(degrees) => `${formatCount(degrees)} °C`} />
      </td>
    </tr>
  );
}
