// Generated from openapi.json by `npm run types`. Change the API's models, not this file.

export interface paths {
    readonly "/api/activity": {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        /**
         * Events
         * @description What happened, newest last.
         */
        readonly get: operations["events"];
        readonly put?: never;
        readonly post?: never;
        readonly delete?: never;
        readonly options?: never;
        readonly head?: never;
        readonly patch?: never;
        readonly trace?: never;
    };
    readonly "/api/barriers": {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        /**
         * Barriers
         * @description Open barriers, then the last that ended.
         */
        readonly get: operations["barriers"];
        readonly put?: never;
        readonly post?: never;
        readonly delete?: never;
        readonly options?: never;
        readonly head?: never;
        readonly patch?: never;
        readonly trace?: never;
    };
    readonly "/api/checkpoints": {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        /**
         * Checkpoints
         * @description Checkpoints, newest first.
         */
        readonly get: operations["checkpoints"];
        readonly put?: never;
        readonly post?: never;
        readonly delete?: never;
        readonly options?: never;
        readonly head?: never;
        readonly patch?: never;
        readonly trace?: never;
    };
    readonly "/api/checkpoints/{checkpoint_id}/verify": {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        readonly get?: never;
        readonly put?: never;
        /**
         * Verify
         * @description Read a checkpoint again and compare every checksum.
         */
        readonly post: operations["verify"];
        readonly delete?: never;
        readonly options?: never;
        readonly head?: never;
        readonly patch?: never;
        readonly trace?: never;
    };
    readonly "/api/dashboard": {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        /**
         * Dashboard
         * @description The full state in one call.
         */
        readonly get: operations["dashboard"];
        readonly put?: never;
        readonly post?: never;
        readonly delete?: never;
        readonly options?: never;
        readonly head?: never;
        readonly patch?: never;
        readonly trace?: never;
    };
    readonly "/api/datasets": {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        /**
         * Datasets
         * @description All datasets.
         */
        readonly get: operations["datasets"];
        readonly put?: never;
        readonly post?: never;
        readonly delete?: never;
        readonly options?: never;
        readonly head?: never;
        readonly patch?: never;
        readonly trace?: never;
    };
    readonly "/api/events": {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        /**
         * Live events
         * @description The live feed as server-sent events.
         */
        readonly get: operations["live_events"];
        readonly put?: never;
        readonly post?: never;
        readonly delete?: never;
        readonly options?: never;
        readonly head?: never;
        readonly patch?: never;
        readonly trace?: never;
    };
    readonly "/api/functions": {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        /**
         * Functions
         * @description The function plane.
         */
        readonly get: operations["functions"];
        readonly put?: never;
        readonly post?: never;
        readonly delete?: never;
        readonly options?: never;
        readonly head?: never;
        readonly patch?: never;
        readonly trace?: never;
    };
    readonly "/api/functions/tasks": {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        /**
         * Function tasks
         * @description Tasks that the dispatcher knows, in the order of their acceptance.
         */
        readonly get: operations["function_tasks"];
        readonly put?: never;
        readonly post?: never;
        readonly delete?: never;
        readonly options?: never;
        readonly head?: never;
        readonly patch?: never;
        readonly trace?: never;
    };
    readonly "/api/functions/tasks/{task_id}": {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        /**
         * Function task
         * @description One task's story.
         */
        readonly get: operations["function_task"];
        readonly put?: never;
        readonly post?: never;
        readonly delete?: never;
        readonly options?: never;
        readonly head?: never;
        readonly patch?: never;
        readonly trace?: never;
    };
    readonly "/api/health": {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        /**
         * Health
         * @description Whether this process serves and is fed.
         */
        readonly get: operations["health"];
        readonly put?: never;
        readonly post?: never;
        readonly delete?: never;
        readonly options?: never;
        readonly head?: never;
        readonly patch?: never;
        readonly trace?: never;
    };
    readonly "/api/history": {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        /**
         * History
         * @description Series for charts; `end` is in Unix milliseconds, by default now.
         */
        readonly get: operations["history"];
        readonly put?: never;
        readonly post?: never;
        readonly delete?: never;
        readonly options?: never;
        readonly head?: never;
        readonly patch?: never;
        readonly trace?: never;
    };
    readonly "/api/jobs": {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        /**
         * Jobs
         * @description Training runs.
         */
        readonly get: operations["jobs"];
        readonly put?: never;
        /**
         * Create job
         * @description Start a job of the operator's allow-list.
         */
        readonly post: operations["create_job"];
        readonly delete?: never;
        readonly options?: never;
        readonly head?: never;
        readonly patch?: never;
        readonly trace?: never;
    };
    readonly "/api/jobs/{job_id}/logs": {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        /**
         * Job logs
         * @description What a job's processes have written.
         */
        readonly get: operations["job_logs"];
        readonly put?: never;
        readonly post?: never;
        readonly delete?: never;
        readonly options?: never;
        readonly head?: never;
        readonly patch?: never;
        readonly trace?: never;
    };
    readonly "/api/jobs/{job_id}/stop": {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        readonly get?: never;
        readonly put?: never;
        /**
         * Stop job
         * @description Ask a job to stop.
         */
        readonly post: operations["stop_job"];
        readonly delete?: never;
        readonly options?: never;
        readonly head?: never;
        readonly patch?: never;
        readonly trace?: never;
    };
    readonly "/api/jobs/templates": {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        /**
         * Job templates
         * @description What may be started.
         */
        readonly get: operations["job_templates"];
        readonly put?: never;
        readonly post?: never;
        readonly delete?: never;
        readonly options?: never;
        readonly head?: never;
        readonly patch?: never;
        readonly trace?: never;
    };
    readonly "/api/logs": {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        /**
         * Logs
         * @description Lines of all processes' logs.
         */
        readonly get: operations["logs"];
        readonly put?: never;
        readonly post?: never;
        readonly delete?: never;
        readonly options?: never;
        readonly head?: never;
        readonly patch?: never;
        readonly trace?: never;
    };
    readonly "/api/metrics": {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        /**
         * Metrics
         * @description The figures of now.
         */
        readonly get: operations["metrics"];
        readonly put?: never;
        readonly post?: never;
        readonly delete?: never;
        readonly options?: never;
        readonly head?: never;
        readonly patch?: never;
        readonly trace?: never;
    };
    readonly "/api/settings": {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        /**
         * Settings
         * @description Effective settings and their sources.
         */
        readonly get: operations["settings"];
        readonly put?: never;
        readonly post?: never;
        readonly delete?: never;
        readonly options?: never;
        readonly head?: never;
        readonly patch?: never;
        readonly trace?: never;
    };
    readonly "/api/status": {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        /**
         * Status
         * @description The coordinator.
         */
        readonly get: operations["status"];
        readonly put?: never;
        readonly post?: never;
        readonly delete?: never;
        readonly options?: never;
        readonly head?: never;
        readonly patch?: never;
        readonly trace?: never;
    };
    readonly "/api/tasks": {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        /**
         * Jobs
         * @description Training runs.
         */
        readonly get: operations["jobs_alias"];
        readonly put?: never;
        /**
         * Create job
         * @description Start a job of the operator's allow-list.
         */
        readonly post: operations["create_job_alias"];
        readonly delete?: never;
        readonly options?: never;
        readonly head?: never;
        readonly patch?: never;
        readonly trace?: never;
    };
    readonly "/api/tasks/{job_id}/logs": {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        /**
         * Job logs
         * @description What a job's processes have written.
         */
        readonly get: operations["job_logs_alias"];
        readonly put?: never;
        readonly post?: never;
        readonly delete?: never;
        readonly options?: never;
        readonly head?: never;
        readonly patch?: never;
        readonly trace?: never;
    };
    readonly "/api/tasks/{job_id}/stop": {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        readonly get?: never;
        readonly put?: never;
        /**
         * Stop job
         * @description Ask a job to stop.
         */
        readonly post: operations["stop_job_alias"];
        readonly delete?: never;
        readonly options?: never;
        readonly head?: never;
        readonly patch?: never;
        readonly trace?: never;
    };
    readonly "/api/timeline": {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        /**
         * Timeline
         * @description What each worker spent its time on.
         */
        readonly get: operations["timeline"];
        readonly put?: never;
        readonly post?: never;
        readonly delete?: never;
        readonly options?: never;
        readonly head?: never;
        readonly patch?: never;
        readonly trace?: never;
    };
    readonly "/api/workers": {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        /**
         * Workers
         * @description All workers, by rank.
         */
        readonly get: operations["workers"];
        readonly put?: never;
        readonly post?: never;
        readonly delete?: never;
        readonly options?: never;
        readonly head?: never;
        readonly patch?: never;
        readonly trace?: never;
    };
    readonly "/api/workers/{worker_id}": {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        /**
         * Worker
         * @description One worker in full.
         */
        readonly get: operations["worker"];
        readonly put?: never;
        readonly post?: never;
        readonly delete?: never;
        readonly options?: never;
        readonly head?: never;
        readonly patch?: never;
        readonly trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /**
         * Alert
         * @description Something that a person should look at now; `id` is its kind and subject. docs/sight.md has each one's rule.
         */
        readonly Alert: {
            readonly id: string;
            /** @enum {unknown} */
            readonly kind: "barrier_slow" | "checkpoint_aborted" | "checkpoint_old" | "coordinator_gone" | "dispatcher_gone" | "function_failures" | "goodput_low" | "hang" | "leases_frozen" | "quorum_pending" | "worker_lost";
            /** @enum {unknown} */
            readonly level: "error" | "warning";
            /** @description Unix time in milliseconds. */
            readonly since: number;
            readonly subject: string;
            readonly text: string;
            readonly way_out: string;
        };
        /**
         * Barrier
         * @description A barrier that is open (`waiting`), or one of the last that ended (`complete`, or `broken`, too).
         */
        readonly Barrier: {
            readonly arrived: number;
            readonly broken: boolean;
            readonly commit: boolean;
            /** @description Unix time in milliseconds. */
            readonly created_at: number;
            readonly ended_at: number | null;
            readonly generation: number;
            readonly id: string;
            readonly missing: readonly string[];
            readonly name: string;
            readonly skew_max_ms: number | null;
            readonly skew_p50_ms: number | null;
            readonly skew_p90_ms: number | null;
            readonly skew_p99_ms: number | null;
            readonly slowest: readonly components["schemas"]["LateWorker"][];
            /** @enum {unknown} */
            readonly status: "complete" | "waiting";
            readonly step: number;
            readonly total: number;
            readonly wait_ms: number | null;
        };
        /**
         * BarrierStatistics
         * @description Of the barriers that ended in the last `window_s`; `most_often_last` counts since the coordinator began.
         */
        readonly BarrierStatistics: {
            readonly count: number;
            readonly most_often_last: readonly components["schemas"]["ShardShare"][];
            readonly skew_p50_ms: number | null;
            readonly skew_p99_ms: number | null;
            readonly wait_p50_ms: number | null;
            readonly wait_p99_ms: number | null;
            readonly window_s: number;
        };
        /**
         * Certificate
         * @description What committed history saw of one finished epoch; `checksum` is decimal text.
         */
        readonly Certificate: {
            readonly checksum: string;
            readonly complete: boolean;
            readonly dataset_id: string;
            readonly epoch: number;
            readonly samples: number;
            readonly total_samples: number;
        };
        /**
         * Checkpoint
         * @description One checkpoint. `size` is in bytes, `path` the folder or URL of it, empty where the place is not known here.
         *
         *         `worker_id` is rank 0's at the time, empty where that is not known. `verified` is null until somebody verified it.
         */
        readonly Checkpoint: {
            readonly arrived: number;
            /** @description Unix time in milliseconds. */
            readonly created_at: number;
            readonly durable_at: number | null;
            readonly epoch: number;
            readonly id: string;
            readonly kind: string;
            readonly megabytes_per_s: number | null;
            readonly metrics: {
                readonly [key: string]: number;
            };
            readonly missing: readonly string[];
            readonly path: string;
            readonly phases: components["schemas"]["CheckpointPhases"];
            readonly reason: string;
            readonly size: number;
            /** @enum {unknown} */
            readonly status: "aborted" | "durable" | "writing";
            readonly step: number;
            readonly tier: string | null;
            readonly verified: boolean | null;
            readonly verified_at: number | null;
            readonly worker_id: string;
            readonly world_size: number;
            readonly written_bytes: number | null;
        };
        /**
         * CheckpointPhases
         * @description How long a checkpoint took, in seconds: until all ranks had staged, until all bytes were durable, until HEAD
         *         reached it. Null where this coordinator has not seen both ends.
         */
        readonly CheckpointPhases: {
            readonly commit_s: number | null;
            readonly drain_s: number | null;
            readonly stage_s: number | null;
            readonly total_s: number | null;
        };
        /**
         * Coordinator
         * @description The coordinator, as `/api/status` has it. `uptime` is in seconds, null while it has never been heard.
         *
         *         While `connected` is false, `since` says when it was heard last, and everything else is as of then.
         */
        readonly Coordinator: {
            readonly address: string;
            readonly api_version: string;
            readonly commit_index: number | null;
            readonly connected: boolean;
            readonly dispatcher: string | null;
            readonly epoch: number | null;
            readonly formed: boolean | null;
            readonly frozen: string;
            readonly generation: number | null;
            readonly have: number | null;
            readonly heartbeat_s: number | null;
            readonly job: string | null;
            readonly lease_s: number | null;
            readonly need: number | null;
            readonly pending: string;
            readonly simulated: boolean;
            readonly since: number | null;
            /** @enum {unknown} */
            readonly source: "live" | "stale" | "waiting";
            readonly started_at: number | null;
            readonly term: number | null;
            readonly uptime: number | null;
            readonly version: string | null;
            readonly world_size: number | null;
        };
        /**
         * CreatedJob
         * @description The job's id.
         */
        readonly CreatedJob: {
            readonly task_id: string;
        };
        /**
         * CreateJob
         * @description A job to start: `type` names an entry of the allow-list, `config` gives its parameters.
         */
        readonly CreateJob: {
            /** @default {} */
            readonly config?: {
                readonly [key: string]: string | number | boolean;
            };
            /** @default  */
            readonly dataset_id?: string;
            readonly name: string;
            readonly type: string;
            /** @default 1 */
            readonly worker_count?: number;
        };
        /**
         * Dashboard
         * @description The full state in one call; `number` and `life` are where the live feed continues it.
         */
        readonly Dashboard: {
            readonly alerts: readonly components["schemas"]["Alert"][];
            /** @description Unix time in milliseconds. */
            readonly at: number;
            readonly barrier_statistics: components["schemas"]["BarrierStatistics"];
            readonly barriers: readonly components["schemas"]["Barrier"][];
            readonly certificates: readonly components["schemas"]["Certificate"][];
            readonly checkpoints: readonly components["schemas"]["Checkpoint"][];
            readonly coordinator: components["schemas"]["Coordinator"];
            readonly datasets: readonly components["schemas"]["Dataset"][];
            readonly events: readonly components["schemas"]["Event"][];
            readonly functions: components["schemas"]["Functions"];
            readonly goodput: components["schemas"]["Goodput"];
            readonly hangs: readonly components["schemas"]["Hang"][];
            readonly life: string;
            readonly logs: readonly components["schemas"]["LogLine"][];
            readonly metrics: components["schemas"]["Metrics"];
            readonly number: number;
            readonly rebalances: readonly components["schemas"]["Rebalance"][];
            readonly settings: readonly components["schemas"]["Setting"][];
            readonly tasks: readonly components["schemas"]["Job"][];
            readonly templates: readonly components["schemas"]["JobTemplate"][];
            readonly workers: readonly components["schemas"]["Worker"][];
        };
        /**
         * DashboardChanges
         * @description What is new in a dashboard. A list of rows has those that are new or different, to be put in by `id`; `gone` has
         *         ids by list. `alerts`, `hangs`, `rebalances`, `certificates`, `settings` and `templates` come whole where they have
         *         changed; `logs` and `events` are to be appended.
         */
        readonly DashboardChanges: {
            /** @default null */
            readonly alerts?: readonly components["schemas"]["Alert"][] | null;
            /** @default null */
            readonly barrier_statistics?: components["schemas"]["BarrierStatistics"] | null;
            /** @default [] */
            readonly barriers?: readonly components["schemas"]["Barrier"][];
            /** @default null */
            readonly certificates?: readonly components["schemas"]["Certificate"][] | null;
            /** @default [] */
            readonly checkpoints?: readonly components["schemas"]["Checkpoint"][];
            /** @default null */
            readonly coordinator?: components["schemas"]["Coordinator"] | null;
            /** @default [] */
            readonly datasets?: readonly components["schemas"]["Dataset"][];
            /** @default [] */
            readonly events?: readonly components["schemas"]["Event"][];
            /** @default null */
            readonly functions?: components["schemas"]["Functions"] | null;
            /** @default {} */
            readonly gone?: {
                readonly [key: string]: readonly string[];
            };
            /** @default null */
            readonly goodput?: components["schemas"]["Goodput"] | null;
            /** @default null */
            readonly hangs?: readonly components["schemas"]["Hang"][] | null;
            /** @default [] */
            readonly logs?: readonly components["schemas"]["LogLine"][];
            /** @default null */
            readonly metrics?: components["schemas"]["Metrics"] | null;
            /** @default null */
            readonly rebalances?: readonly components["schemas"]["Rebalance"][] | null;
            /** @default null */
            readonly settings?: readonly components["schemas"]["Setting"][] | null;
            /** @default [] */
            readonly tasks?: readonly components["schemas"]["Job"][];
            /** @default null */
            readonly templates?: readonly components["schemas"]["JobTemplate"][] | null;
            /** @default [] */
            readonly workers?: readonly components["schemas"]["Worker"][];
        };
        /**
         * Dataset
         * @description One dataset, and how far the current epoch is.
         */
        readonly Dataset: {
            readonly committed_samples: number;
            readonly epoch: number;
            readonly format: string;
            readonly id: string;
            readonly metadata: {
                readonly [key: string]: string;
            };
            readonly name: string;
            readonly open_shards: number;
            readonly path: string;
            /** @description Unix time in milliseconds. */
            readonly registered_at: number;
            readonly seed: number;
            readonly shard_count: number;
            readonly shard_size: number;
            readonly shards: readonly components["schemas"]["ShardShare"][];
            readonly shuffle: boolean;
            readonly total_samples: number;
        };
        /**
         * Event
         * @description Something that happened, and why.
         */
        readonly Event: {
            /** @description Unix time in milliseconds. */
            readonly at: number;
            readonly kind: string;
            /** @enum {unknown} */
            readonly level: "debug" | "error" | "info" | "warning";
            readonly number: number;
            /** @enum {unknown} */
            readonly origin: "api" | "coordinator" | "dispatcher";
            readonly subject: string;
            readonly text: string;
            readonly worker_id: string;
        };
        /**
         * Functions
         * @description The function plane; null figures while no dispatcher was heard. Rates are of the last ten seconds.
         */
        readonly Functions: {
            readonly accepted_per_s: number | null;
            readonly accepted_total: number | null;
            readonly address: string;
            readonly cancelled_total: number | null;
            readonly completed_per_s: number | null;
            readonly completed_total: number | null;
            readonly connected: boolean;
            readonly ended: number | null;
            readonly failed_per_s: number | null;
            readonly failed_total: number | null;
            readonly late_results: number | null;
            readonly mode: string | null;
            readonly queued: number | null;
            readonly queued_bytes: number | null;
            readonly requeued_total: number | null;
            readonly result_bytes: number | null;
            readonly running: number | null;
            readonly since: number | null;
            readonly slots: number | null;
            readonly store: string | null;
            readonly workers: readonly components["schemas"]["FunctionWorker"][];
        };
        /**
         * FunctionTask
         * @description One task's story, as far as the dispatcher still knows it. `task_id` is a UUID.
         */
        readonly FunctionTask: {
            readonly attempt: number;
            readonly cause: string;
            readonly ended_at: number | null;
            readonly error_message: string;
            readonly error_type: string;
            readonly started_at: number | null;
            readonly status: string;
            readonly stderr: string;
            readonly stdout: string;
            readonly submitted_at: number | null;
            readonly task_id: string;
            readonly traceback: string;
            readonly worker: string;
        };
        /**
         * FunctionTaskPage
         * @description Some tasks in the order of their acceptance; `next` is the `after` of the next page.
         */
        readonly FunctionTaskPage: {
            readonly next: string | null;
            readonly tasks: readonly components["schemas"]["FunctionTask"][];
        };
        /**
         * FunctionWorker
         * @description One worker of the function plane.
         */
        readonly FunctionWorker: {
            readonly held: number;
            readonly id: string;
            readonly mode: string;
            /** @description Unix time in milliseconds. */
            readonly moved_at: number;
            readonly python: string;
            readonly retiring: boolean;
            readonly running: number;
            readonly slots: number;
            readonly stalled: boolean;
            readonly worker_id: string;
        };
        /**
         * Goodput
         * @description The share of all worker time of the last `window_s` that was spent training; null while nobody reports it.
         *
         *         `measured_workers` report it, of `workers`. The shares add up to 1 with what was idle or unknown.
         */
        readonly Goodput: {
            readonly barrier_share: number | null;
            readonly checkpoint_share: number | null;
            readonly data_share: number | null;
            readonly lost_share: number | null;
            readonly measured_workers: number;
            readonly percent: number | null;
            readonly training_share: number | null;
            readonly window_s: number;
            readonly workers: number;
        };
        /**
         * Hang
         * @description Who is waited for, by whom, since when, and what its threads do, where that was told.
         */
        readonly Hang: {
            readonly rank: number | null;
            /** @description Unix time in milliseconds. */
            readonly since: number;
            readonly stacks: string;
            readonly stacks_at: number | null;
            readonly waiter_count: number;
            readonly waiters: readonly string[];
            readonly where: string;
            readonly worker_id: string;
        };
        /**
         * History
         * @description Series of equal steps of `step_s` that begin at `start`; null where nothing was measured.
         *
         *         Names: samples_per_s, checkpoint_megabytes_per_s, requests_per_s, barriers_per_s, barrier_p50_ms, barrier_p99_ms,
         *         skew_p50_ms, skew_p99_ms, goodput_percent, active_workers, failed_workers, queued_tasks, tasks_per_s,
         *         task_failures_per_s.
         */
        readonly History: {
            readonly series: {
                readonly [key: string]: readonly (number | null)[];
            };
            /** @description Unix time in milliseconds. */
            readonly start: number;
            readonly step_s: number;
        };
        /**
         * Job
         * @description One training run: the coordinator's own (`origin` coordinator), or one that was started here.
         */
        readonly Job: {
            readonly config: Record<string, unknown>;
            readonly created_at: number | null;
            readonly dataset_id: string;
            readonly ended_at: number | null;
            readonly exit_code: number | null;
            readonly id: string;
            readonly message: string;
            readonly name: string;
            /** @enum {unknown} */
            readonly origin: "api" | "coordinator";
            readonly pid: number | null;
            readonly started_at: number | null;
            /** @enum {unknown} */
            readonly status: "completed" | "failed" | "pending" | "running" | "stopped";
            readonly stoppable: boolean;
            readonly type: string;
            readonly worker_count: number;
        };
        /**
         * JobStopped
         * @description The job's state after the request to stop it; it ends when its workers have committed what they hold.
         */
        readonly JobStopped: {
            /** @enum {unknown} */
            readonly status: "completed" | "failed" | "pending" | "running" | "stopped";
            readonly task_id: string;
        };
        /**
         * JobTemplate
         * @description What the operator allows to be started, by `type`; `parameters` are names and what each takes.
         */
        readonly JobTemplate: {
            readonly description: string;
            readonly parameters: {
                readonly [key: string]: string;
            };
            readonly type: string;
            readonly workers_max: number;
        };
        /**
         * LateWorker
         * @description Who came late to a barrier, and how much after the first.
         */
        readonly LateWorker: {
            readonly late_ms: number;
            readonly worker_id: string;
        };
        /**
         * LiveChanges
         * @description The next message: `number` is one more than the last, or something was missed and the page connects anew.
         *
         *         `points` are the last values of each series of `/api/history` since the message before, as [milliseconds, value].
         */
        readonly LiveChanges: {
            /** @description Unix time in milliseconds. */
            readonly at: number;
            readonly changes: components["schemas"]["DashboardChanges"];
            readonly life: string;
            readonly number: number;
            /** @default {} */
            readonly points?: {
                readonly [key: string]: readonly (readonly [
                    number,
                    number | null
                ])[];
            };
            /** @enum {unknown} */
            readonly type: "changes";
        };
        /**
         * LiveSnapshot
         * @description The first message of a live feed, and the one after a change of `life`.
         */
        readonly LiveSnapshot: {
            readonly life: string;
            readonly number: number;
            readonly state: components["schemas"]["Dashboard"];
            /** @enum {unknown} */
            readonly type: "snapshot";
        };
        /**
         * LogLine
         * @description One line of a process's log, or an event. `source` is the process: coordinator, worker-0, writer-0, api.
         */
        readonly LogLine: {
            readonly fields: Record<string, unknown>;
            /** @enum {unknown} */
            readonly level: "debug" | "error" | "info" | "warning";
            readonly message: string;
            readonly number: number;
            readonly source: string;
            /** @description Unix time in milliseconds. */
            readonly timestamp: number;
        };
        /**
         * LogPage
         * @description Lines, newest last; `before` is the number to ask with for earlier ones, null at the beginning.
         */
        readonly LogPage: {
            readonly before: number | null;
            readonly lines: readonly components["schemas"]["LogLine"][];
            readonly sources: readonly string[];
        };
        /**
         * Metrics
         * @description Rates over the last ten seconds. `checkpoint_throughput` is in MB/s (of 10^6 bytes), `barrier_latency_p99` and
         *         `shard_assignment_time` in milliseconds; null where nothing of the kind has happened.
         */
        readonly Metrics: {
            readonly active_workers: number;
            readonly barrier_latency_p99: number | null;
            readonly barriers_per_s: number | null;
            readonly checkpoint_throughput: number | null;
            readonly coordinator_rps: number | null;
            readonly data_wait_p99_ms: number | null;
            readonly failed_workers: number;
            readonly idle_workers: number;
            readonly request_latency_p99_ms: number | null;
            readonly samples_per_s: number | null;
            readonly shard_assignment_time: number | null;
            readonly tasks_per_s: number | null;
            readonly total_workers: number;
            readonly unknown_workers: number;
        };
        /**
         * Problem
         * @description What is wrong with a body, and where.
         */
        readonly Problem: {
            readonly loc: readonly string[];
            readonly msg: string;
            readonly type: string;
        };
        /**
         * Rebalance
         * @description What one change of membership moved, against the least that it could have.
         */
        readonly Rebalance: {
            readonly at: number | null;
            readonly generation: number;
            readonly joined: readonly string[];
            readonly joined_count: number;
            readonly left: readonly string[];
            readonly left_count: number;
            readonly lower_bound: number;
            readonly moved: number;
        };
        /**
         * Refused
         * @description Why a request was not carried out; `code` names the error.
         */
        readonly Refused: {
            readonly code: string;
            readonly detail: string;
        };
        /**
         * Release
         * @description A barrier's end, as the timeline marks it.
         */
        readonly Release: {
            /** @description Unix time in milliseconds. */
            readonly at: number;
            readonly broken: boolean;
            readonly id: string;
            readonly skew_max_ms: number | null;
            readonly slowest: readonly components["schemas"]["LateWorker"][];
            readonly wait_ms: number;
        };
        /**
         * Setting
         * @description One effective setting and where its value came from.
         */
        readonly Setting: {
            readonly name: string;
            /** @enum {unknown} */
            readonly process: "api" | "coordinator" | "dispatcher";
            /** @enum {unknown} */
            readonly source: "default" | "derived" | "environment" | "option";
            readonly value: string;
        };
        /**
         * ShardShare
         * @description How many shards of a dataset one worker owns.
         */
        readonly ShardShare: {
            readonly shards: number;
            readonly worker_id: string;
        };
        /**
         * StateHealth
         * @description Whether this process serves and is fed: `ok`, `stale` (the coordinator was heard once) or `waiting` (never).
         */
        readonly StateHealth: {
            readonly clients: number;
            readonly simulated: boolean;
            readonly stale_since: number | null;
            /** @enum {unknown} */
            readonly status: "ok" | "stale" | "waiting";
            readonly version: string;
        };
        /**
         * Timeline
         * @description What each worker spent its time on, in steps of `step_s` from `start`; a step has the phase it mostly was in.
         *
         *         Within one heartbeat's time the shares are measured, and their order is not known. `releases` are the barriers that
         *         ended in that time.
         */
        readonly Timeline: {
            readonly phases: readonly ("absent" | "barrier" | "checkpoint" | "data" | "idle" | "lost" | "training" | "unknown")[];
            readonly releases: readonly components["schemas"]["Release"][];
            readonly rows: readonly components["schemas"]["TimelineRow"][];
            /** @description Unix time in milliseconds. */
            readonly start: number;
            readonly step_s: number;
            readonly steps: number;
            readonly total_workers: number;
        };
        /**
         * TimelineRow
         * @description One worker's time as runs of (phase, steps): the phases' numbers are their places in Timeline.phases.
         */
        readonly TimelineRow: {
            readonly runs: readonly (readonly [
                number,
                number
            ])[];
            readonly worker_id: string;
        };
        /**
         * Unreadable
         * @description A body that is not as it has to be.
         */
        readonly Unreadable: {
            readonly detail: readonly components["schemas"]["Problem"][];
        };
        /**
         * Usage
         * @description What a worker's process uses, as its last heartbeat that told it.
         */
        readonly Usage: {
            readonly cpu_percent: number;
            readonly disk_read_bytes: number;
            readonly disk_write_bytes: number;
            readonly gpu_celsius: readonly number[];
            readonly gpu_memory_bytes: readonly number[];
            readonly gpu_percent: readonly number[];
            readonly memory_bytes: number;
            readonly network_received_bytes: number;
            readonly network_sent_bytes: number;
        };
        /**
         * Worker
         * @description One worker: registered, or lost and not back (`status` failed). `ip` is the name of its host.
         *
         *         Shares are of the last minute of its time, null where it does not report them.
         */
        readonly Worker: {
            readonly assigned_shards: number;
            readonly barrier_share: number | null;
            readonly checkpoint_share: number | null;
            readonly current_epoch: number;
            readonly current_step: number;
            readonly current_task: string | null;
            readonly data_share: number | null;
            readonly gpu_count: number;
            readonly hanging: boolean;
            readonly id: string;
            readonly incarnation: string;
            readonly ip: string;
            readonly last_at_barriers: number;
            /** @description Unix time in milliseconds. */
            readonly last_heartbeat: number;
            readonly lease_ends_at: number | null;
            readonly lost_reason: string;
            readonly memory_bytes: number;
            readonly metadata: {
                readonly [key: string]: string;
            };
            /** @description Unix time in milliseconds. */
            readonly moved_at: number;
            readonly pid: number;
            readonly port: number;
            readonly progress: number;
            readonly rank: number | null;
            readonly registered_at: number | null;
            readonly samples: number | null;
            readonly samples_per_s: number | null;
            /** @enum {unknown} */
            readonly state: "CHECKPOINTING" | "FAILED" | "IDLE" | "INITIALIZING" | "LOADING_DATA" | "RECOVERING" | "TRAINING" | "UNKNOWN";
            /** @enum {unknown} */
            readonly status: "active" | "failed" | "idle" | "unknown";
            readonly training_share: number | null;
            readonly usage: components["schemas"]["Usage"] | null;
        };
        /**
         * WorkerStory
         * @description One worker in full: its row, its events, its stacks where it was asked for them, its shards by dataset.
         */
        readonly WorkerStory: {
            readonly events: readonly components["schemas"]["Event"][];
            readonly logs: readonly components["schemas"]["LogLine"][];
            readonly shards: {
                readonly [key: string]: number;
            };
            readonly stacks: string;
            readonly stacks_at: number | null;
            readonly worker: components["schemas"]["Worker"];
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    readonly events: {
        readonly parameters: {
            readonly query?: {
                readonly kind?: string;
                readonly limit?: number;
                readonly subject?: string;
            };
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        readonly requestBody?: never;
        readonly responses: {
            /** @description What happened, newest last. */
            readonly 200: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": readonly components["schemas"]["Event"][];
                };
            };
            /** @description The Host is not this server's. */
            readonly 421: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The body or a parameter is not as it has to be. */
            readonly 422: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Unreadable"];
                };
            };
            /** @description The coordinator was never heard: try again after Retry-After seconds. */
            readonly 503: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
        };
    };
    readonly barriers: {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        readonly requestBody?: never;
        readonly responses: {
            /** @description Open barriers, then the last that ended. */
            readonly 200: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": readonly components["schemas"]["Barrier"][];
                };
            };
            /** @description The Host is not this server's. */
            readonly 421: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The coordinator was never heard: try again after Retry-After seconds. */
            readonly 503: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
        };
    };
    readonly checkpoints: {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        readonly requestBody?: never;
        readonly responses: {
            /** @description Checkpoints, newest first. */
            readonly 200: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": readonly components["schemas"]["Checkpoint"][];
                };
            };
            /** @description The Host is not this server's. */
            readonly 421: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The coordinator was never heard: try again after Retry-After seconds. */
            readonly 503: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
        };
    };
    readonly verify: {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path: {
                readonly checkpoint_id: string;
            };
            readonly cookie?: never;
        };
        readonly requestBody?: never;
        readonly responses: {
            /** @description Read a checkpoint again and compare every checksum. */
            readonly 200: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Checkpoint"];
                };
            };
            /** @description The Origin is not this server's. */
            readonly 403: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description There is no such thing; the answer says what there is. */
            readonly 404: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description It cannot be done now; the answer says why. */
            readonly 409: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The Host is not this server's. */
            readonly 421: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description There is too much of it at once: try again after Retry-After seconds. */
            readonly 429: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The coordinator was never heard: try again after Retry-After seconds. */
            readonly 503: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
        };
    };
    readonly dashboard: {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        readonly requestBody?: never;
        readonly responses: {
            /** @description The full state in one call. */
            readonly 200: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Dashboard"];
                };
            };
            /** @description The Host is not this server's. */
            readonly 421: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The coordinator was never heard: try again after Retry-After seconds. */
            readonly 503: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
        };
    };
    readonly datasets: {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        readonly requestBody?: never;
        readonly responses: {
            /** @description All datasets. */
            readonly 200: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": readonly components["schemas"]["Dataset"][];
                };
            };
            /** @description The Host is not this server's. */
            readonly 421: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The coordinator was never heard: try again after Retry-After seconds. */
            readonly 503: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
        };
    };
    readonly live_events: {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        readonly requestBody?: never;
        readonly responses: {
            /** @description The live feed as server-sent events. */
            readonly 200: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "text/event-stream": string;
                };
            };
            /** @description The Host is not this server's. */
            readonly 421: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description There is too much of it at once: try again after Retry-After seconds. */
            readonly 429: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
        };
    };
    readonly functions: {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        readonly requestBody?: never;
        readonly responses: {
            /** @description The function plane. */
            readonly 200: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Functions"];
                };
            };
            /** @description The Host is not this server's. */
            readonly 421: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The coordinator was never heard: try again after Retry-After seconds. */
            readonly 503: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
        };
    };
    readonly function_tasks: {
        readonly parameters: {
            readonly query?: {
                readonly after?: string;
                readonly limit?: number;
                readonly state?: "QUEUED" | "RUNNING" | "COMPLETED" | "FAILED" | "CANCELLED" | "EXPIRED";
            };
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        readonly requestBody?: never;
        readonly responses: {
            /** @description Tasks that the dispatcher knows, in the order of their acceptance. */
            readonly 200: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["FunctionTaskPage"];
                };
            };
            /** @description There is no such thing; the answer says what there is. */
            readonly 404: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The Host is not this server's. */
            readonly 421: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The body or a parameter is not as it has to be. */
            readonly 422: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Unreadable"];
                };
            };
            /** @description The coordinator was never heard: try again after Retry-After seconds. */
            readonly 503: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
        };
    };
    readonly function_task: {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path: {
                readonly task_id: string;
            };
            readonly cookie?: never;
        };
        readonly requestBody?: never;
        readonly responses: {
            /** @description One task's story. */
            readonly 200: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["FunctionTask"];
                };
            };
            /** @description There is no such thing; the answer says what there is. */
            readonly 404: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The Host is not this server's. */
            readonly 421: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The coordinator was never heard: try again after Retry-After seconds. */
            readonly 503: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
        };
    };
    readonly health: {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        readonly requestBody?: never;
        readonly responses: {
            /** @description Whether this process serves and is fed. */
            readonly 200: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["StateHealth"];
                };
            };
            /** @description The Host is not this server's. */
            readonly 421: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The coordinator was never heard: try again after Retry-After seconds. */
            readonly 503: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
        };
    };
    readonly history: {
        readonly parameters: {
            readonly query?: {
                readonly end?: number;
                readonly seconds?: number;
            };
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        readonly requestBody?: never;
        readonly responses: {
            /** @description Series for charts; `end` is in Unix milliseconds, by default now. */
            readonly 200: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["History"];
                };
            };
            /** @description The Host is not this server's. */
            readonly 421: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The body or a parameter is not as it has to be. */
            readonly 422: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Unreadable"];
                };
            };
            /** @description The coordinator was never heard: try again after Retry-After seconds. */
            readonly 503: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
        };
    };
    readonly jobs: {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        readonly requestBody?: never;
        readonly responses: {
            /** @description Training runs. */
            readonly 200: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": readonly components["schemas"]["Job"][];
                };
            };
            /** @description The Host is not this server's. */
            readonly 421: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
        };
    };
    readonly create_job: {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        readonly requestBody: {
            readonly content: {
                readonly "application/json": components["schemas"]["CreateJob"];
            };
        };
        readonly responses: {
            /** @description Start a job of the operator's allow-list. */
            readonly 201: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["CreatedJob"];
                };
            };
            /** @description It is not as the allow-list has it; the answer says what it takes. */
            readonly 400: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The Origin is not this server's. */
            readonly 403: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description There is no such thing; the answer says what there is. */
            readonly 404: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description It cannot be done now; the answer says why. */
            readonly 409: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The body is too long. */
            readonly 413: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The body is no JSON. */
            readonly 415: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The Host is not this server's. */
            readonly 421: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The body or a parameter is not as it has to be. */
            readonly 422: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Unreadable"];
                };
            };
            /** @description There is too much of it at once: try again after Retry-After seconds. */
            readonly 429: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The coordinator was never heard: try again after Retry-After seconds. */
            readonly 503: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
        };
    };
    readonly job_logs: {
        readonly parameters: {
            readonly query?: {
                readonly before?: number;
                readonly level?: "debug" | "info" | "warning" | "error";
                readonly limit?: number;
                readonly search?: string;
                readonly source?: string;
            };
            readonly header?: never;
            readonly path: {
                readonly job_id: string;
            };
            readonly cookie?: never;
        };
        readonly requestBody?: never;
        readonly responses: {
            /** @description What a job's processes have written. */
            readonly 200: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["LogPage"];
                };
            };
            /** @description There is no such thing; the answer says what there is. */
            readonly 404: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The Host is not this server's. */
            readonly 421: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The body or a parameter is not as it has to be. */
            readonly 422: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Unreadable"];
                };
            };
        };
    };
    readonly stop_job: {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path: {
                readonly job_id: string;
            };
            readonly cookie?: never;
        };
        readonly requestBody?: never;
        readonly responses: {
            /** @description Ask a job to stop. */
            readonly 200: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["JobStopped"];
                };
            };
            /** @description The Origin is not this server's. */
            readonly 403: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description There is no such thing; the answer says what there is. */
            readonly 404: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description It cannot be done now; the answer says why. */
            readonly 409: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The Host is not this server's. */
            readonly 421: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The coordinator was never heard: try again after Retry-After seconds. */
            readonly 503: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
        };
    };
    readonly job_templates: {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        readonly requestBody?: never;
        readonly responses: {
            /** @description What may be started. */
            readonly 200: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": readonly components["schemas"]["JobTemplate"][];
                };
            };
            /** @description The Host is not this server's. */
            readonly 421: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
        };
    };
    readonly logs: {
        readonly parameters: {
            readonly query?: {
                readonly before?: number;
                readonly level?: "debug" | "info" | "warning" | "error";
                readonly limit?: number;
                readonly search?: string;
                readonly source?: string;
            };
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        readonly requestBody?: never;
        readonly responses: {
            /** @description Lines of all processes' logs. */
            readonly 200: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["LogPage"];
                };
            };
            /** @description The Host is not this server's. */
            readonly 421: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The body or a parameter is not as it has to be. */
            readonly 422: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Unreadable"];
                };
            };
        };
    };
    readonly metrics: {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        readonly requestBody?: never;
        readonly responses: {
            /** @description The figures of now. */
            readonly 200: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Metrics"];
                };
            };
            /** @description The Host is not this server's. */
            readonly 421: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The coordinator was never heard: try again after Retry-After seconds. */
            readonly 503: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
        };
    };
    readonly settings: {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        readonly requestBody?: never;
        readonly responses: {
            /** @description Effective settings and their sources. */
            readonly 200: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": readonly components["schemas"]["Setting"][];
                };
            };
            /** @description The Host is not this server's. */
            readonly 421: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The coordinator was never heard: try again after Retry-After seconds. */
            readonly 503: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
        };
    };
    readonly status: {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        readonly requestBody?: never;
        readonly responses: {
            /** @description The coordinator. */
            readonly 200: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Coordinator"];
                };
            };
            /** @description The Host is not this server's. */
            readonly 421: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The coordinator was never heard: try again after Retry-After seconds. */
            readonly 503: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
        };
    };
    readonly jobs_alias: {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        readonly requestBody?: never;
        readonly responses: {
            /** @description Training runs. */
            readonly 200: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": readonly components["schemas"]["Job"][];
                };
            };
            /** @description The Host is not this server's. */
            readonly 421: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
        };
    };
    readonly create_job_alias: {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        readonly requestBody: {
            readonly content: {
                readonly "application/json": components["schemas"]["CreateJob"];
            };
        };
        readonly responses: {
            /** @description Start a job of the operator's allow-list. */
            readonly 201: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["CreatedJob"];
                };
            };
            /** @description It is not as the allow-list has it; the answer says what it takes. */
            readonly 400: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The Origin is not this server's. */
            readonly 403: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description There is no such thing; the answer says what there is. */
            readonly 404: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description It cannot be done now; the answer says why. */
            readonly 409: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The body is too long. */
            readonly 413: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The body is no JSON. */
            readonly 415: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The Host is not this server's. */
            readonly 421: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The body or a parameter is not as it has to be. */
            readonly 422: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Unreadable"];
                };
            };
            /** @description There is too much of it at once: try again after Retry-After seconds. */
            readonly 429: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The coordinator was never heard: try again after Retry-After seconds. */
            readonly 503: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
        };
    };
    readonly job_logs_alias: {
        readonly parameters: {
            readonly query?: {
                readonly before?: number;
                readonly level?: "debug" | "info" | "warning" | "error";
                readonly limit?: number;
                readonly search?: string;
                readonly source?: string;
            };
            readonly header?: never;
            readonly path: {
                readonly job_id: string;
            };
            readonly cookie?: never;
        };
        readonly requestBody?: never;
        readonly responses: {
            /** @description What a job's processes have written. */
            readonly 200: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["LogPage"];
                };
            };
            /** @description There is no such thing; the answer says what there is. */
            readonly 404: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The Host is not this server's. */
            readonly 421: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The body or a parameter is not as it has to be. */
            readonly 422: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Unreadable"];
                };
            };
        };
    };
    readonly stop_job_alias: {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path: {
                readonly job_id: string;
            };
            readonly cookie?: never;
        };
        readonly requestBody?: never;
        readonly responses: {
            /** @description Ask a job to stop. */
            readonly 200: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["JobStopped"];
                };
            };
            /** @description The Origin is not this server's. */
            readonly 403: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description There is no such thing; the answer says what there is. */
            readonly 404: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description It cannot be done now; the answer says why. */
            readonly 409: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The Host is not this server's. */
            readonly 421: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The coordinator was never heard: try again after Retry-After seconds. */
            readonly 503: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
        };
    };
    readonly timeline: {
        readonly parameters: {
            readonly query?: {
                readonly end?: number;
                readonly limit?: number;
                readonly offset?: number;
                readonly search?: string;
                readonly seconds?: number;
            };
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        readonly requestBody?: never;
        readonly responses: {
            /** @description What each worker spent its time on. */
            readonly 200: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Timeline"];
                };
            };
            /** @description The Host is not this server's. */
            readonly 421: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The body or a parameter is not as it has to be. */
            readonly 422: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Unreadable"];
                };
            };
            /** @description The coordinator was never heard: try again after Retry-After seconds. */
            readonly 503: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
        };
    };
    readonly workers: {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path?: never;
            readonly cookie?: never;
        };
        readonly requestBody?: never;
        readonly responses: {
            /** @description All workers, by rank. */
            readonly 200: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": readonly components["schemas"]["Worker"][];
                };
            };
            /** @description The Host is not this server's. */
            readonly 421: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The coordinator was never heard: try again after Retry-After seconds. */
            readonly 503: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
        };
    };
    readonly worker: {
        readonly parameters: {
            readonly query?: never;
            readonly header?: never;
            readonly path: {
                readonly worker_id: string;
            };
            readonly cookie?: never;
        };
        readonly requestBody?: never;
        readonly responses: {
            /** @description One worker in full. */
            readonly 200: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["WorkerStory"];
                };
            };
            /** @description There is no such thing; the answer says what there is. */
            readonly 404: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The Host is not this server's. */
            readonly 421: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
            /** @description The coordinator was never heard: try again after Retry-After seconds. */
            readonly 503: {
                headers: {
                    readonly [name: string]: unknown;
                };
                content: {
                    readonly "application/json": components["schemas"]["Refused"];
                };
            };
        };
    };
}
