// The API's models under short names; their fields and what they mean are in schema.d.ts, made from the API itself.
import type { components } from "./schema";

type Schemas = components["schemas"];

export type Alert = Schemas["Alert"];
export type Barrier = Schemas["Barrier"];
export type BarrierStatistics = Schemas["BarrierStatistics"];
export type Certificate = Schemas["Certificate"];
export type Checkpoint = Schemas["Checkpoint"];
export type CheckpointPhases = Schemas["CheckpointPhases"];
export type Coordinator = Schemas["Coordinator"];
export type CreateJob = Schemas["CreateJob"];
export type CreatedJob = Schemas["CreatedJob"];
export type Dashboard = Schemas["Dashboard"];
export type DashboardChanges = Schemas["DashboardChanges"];
export type Dataset = Schemas["Dataset"];
export type Event = Schemas["Event"];
export type FunctionTask = Schemas["FunctionTask"];
export type FunctionTaskPage = Schemas["FunctionTaskPage"];
export type FunctionWorker = Schemas["FunctionWorker"];
export type Functions = Schemas["Functions"];
export type Goodput = Schemas["Goodput"];
export type Hang = Schemas["Hang"];
export type History = Schemas["History"];
export type Job = Schemas["Job"];
export type JobStopped = Schemas["JobStopped"];
export type JobTemplate = Schemas["JobTemplate"];
export type LateWorker = Schemas["LateWorker"];
export type LiveChanges = Schemas["LiveChanges"];
export type LiveSnapshot = Schemas["LiveSnapshot"];
export type LogLine = Schemas["LogLine"];
export type LogPage = Schemas["LogPage"];
export type Metrics = Schemas["Metrics"];
export type Phase = Schemas["Timeline"]["phases"][number];
export type Rebalance = Schemas["Rebalance"];
export type Release = Schemas["Release"];
export type Setting = Schemas["Setting"];
export type ShardShare = Schemas["ShardShare"];
export type StateHealth = Schemas["StateHealth"];
export type Timeline = Schemas["Timeline"];
export type TimelineRow = Schemas["TimelineRow"];
export type Usage = Schemas["Usage"];
export type Worker = Schemas["Worker"];
export type WorkerStory = Schemas["WorkerStory"];

export type Point = readonly [number, number | null];
