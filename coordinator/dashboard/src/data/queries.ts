// What is asked for and not streamed: one hook for each route, typed by the API's description.
import { keepPreviousData, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import type {
  Checkpoint,
  CreatedJob,
  CreateJob,
  FunctionTask,
  FunctionTaskPage,
  History,
  JobStopped,
  LogPage,
  Timeline,
  WorkerStory,
} from "~/api/types";
import type { ApiClient, Query } from "./client";
import { useClient } from "./context";

const seg = encodeURIComponent;

interface Asked {
  /** Asks again this often; off by default. */
  everyMs?: number;
  enabled?: boolean;
  /** A change of this asks again. */
  key?: number;
}

function useGet<T>(path: string, query: Query = {}, { everyMs, enabled = true, key = 0 }: Asked = {}) {
  const client = useClient();
  return useQuery({
    queryKey: [path, query, key],
    queryFn: ({ signal }) => client.get<T>(path, { query, signal }),
    placeholderData: keepPreviousData,
    refetchInterval: everyMs ?? false,
    enabled,
  });
}

/** One worker's events, stacks, shards and lines; `null` asks nothing. */
export const useWorkerStory = (id: string | null, asked: Asked = {}) =>
  useGet<WorkerStory>(`/api/workers/${seg(id ?? "")}`, {}, { ...asked, enabled: id !== null });

export interface TimelineQuery {
  seconds?: number;
  /** Unix milliseconds; now when it is missing. */
  end?: number;
  offset?: number;
  limit?: number;
  search?: string;
}
export const useTimeline = (query: TimelineQuery, asked: Asked = {}) =>
  useGet<Timeline>("/api/timeline", { ...query }, asked);

export interface LogsQuery {
  limit?: number;
  level?: "debug" | "info" | "warning" | "error";
  source?: string;
  search?: string;
  before?: number;
}
export const useLogs = (query: LogsQuery, asked: Asked = {}) => useGet<LogPage>("/api/logs", { ...query }, asked);

export const useJobLogs = (id: string | null, query: LogsQuery, asked: Asked = {}) =>
  useGet<LogPage>(`/api/jobs/${seg(id ?? "")}/logs`, { ...query }, { ...asked, enabled: id !== null });

export interface TasksQuery {
  limit?: number;
  after?: string;
  state?: "QUEUED" | "RUNNING" | "COMPLETED" | "FAILED" | "CANCELLED" | "EXPIRED";
}
export const useFunctionTasks = (query: TasksQuery, asked: Asked = {}) =>
  useGet<FunctionTaskPage>("/api/functions/tasks", { ...query }, asked);

export const useFunctionTask = (id: string | null, asked: Asked = {}) =>
  useGet<FunctionTask>(`/api/functions/tasks/${seg(id ?? "")}`, {}, { ...asked, enabled: id !== null });

export interface HistoryQuery {
  seconds: number;
  end?: number;
}
export const useHistory = (query: HistoryQuery, asked: Asked = {}) =>
  useGet<History>("/api/history", { ...query }, asked);

function useAction<T, A>(act: (client: ApiClient, argument: A) => Promise<T>) {
  const client = useClient();
  const queries = useQueryClient();
  return useMutation({
    mutationFn: (argument: A) => act(client, argument),
    onSettled: () => queries.invalidateQueries(),
  });
}

export const useCreateJob = () =>
  useAction((client, body: CreateJob) => client.post<CreatedJob>("/api/jobs", { body }));

export const useStopJob = () => useAction((client, id: string) => client.post<JobStopped>(`/api/jobs/${seg(id)}/stop`));

export const useVerifyCheckpoint = () =>
  useAction((client, id: string) =>
    client.post<Checkpoint>(`/api/checkpoints/${seg(id)}/verify`, { timeoutMs: 600_000 }),
  );
