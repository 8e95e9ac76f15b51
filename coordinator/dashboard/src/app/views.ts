// The list of views: what each is called, where it lives, its shortcut, and the file that is loaded when it is opened.
import { type ComponentType, type LazyExoticComponent, lazy } from "react";
import type { IconName } from "~/components/Icon";

export interface View {
  id: string;
  path: string;
  title: string;
  icon: IconName;
  /** Pressed after `g`. */
  key: string;
  /** One line for the help. */
  purpose: string;
  Component: LazyExoticComponent<ComponentType>;
}

/** A view is `src/views/<id>/index.tsx` with a component as its default export. */
export const VIEWS: readonly View[] = [
  {
    id: "overview",
    path: "/",
    title: "Overview",
    icon: "overview",
    key: "o",
    purpose: "Whether the job is healthy",
    Component: lazy(() => import("~/views/overview")),
  },
  {
    id: "timeline",
    path: "/timeline",
    title: "Timeline",
    icon: "timeline",
    key: "t",
    purpose: "What each worker spent its time on",
    Component: lazy(() => import("~/views/timeline")),
  },
  {
    id: "workers",
    path: "/workers",
    title: "Workers",
    icon: "workers",
    key: "w",
    purpose: "Every worker, its resources and its story",
    Component: lazy(() => import("~/views/workers")),
  },
  {
    id: "data",
    path: "/data",
    title: "Data",
    icon: "data",
    key: "d",
    purpose: "Shards, epochs and rebalances",
    Component: lazy(() => import("~/views/data")),
  },
  {
    id: "checkpoints",
    path: "/checkpoints",
    title: "Checkpoints",
    icon: "checkpoints",
    key: "c",
    purpose: "What is durable",
    Component: lazy(() => import("~/views/checkpoints")),
  },
  {
    id: "barriers",
    path: "/barriers",
    title: "Barriers",
    icon: "barriers",
    key: "b",
    purpose: "Who is late",
    Component: lazy(() => import("~/views/barriers")),
  },
  {
    id: "functions",
    path: "/functions",
    title: "Functions",
    icon: "functions",
    key: "f",
    purpose: "Queues, rates and failures of calls",
    Component: lazy(() => import("~/views/functions")),
  },
  {
    id: "jobs",
    path: "/jobs",
    title: "Jobs",
    icon: "jobs",
    key: "j",
    purpose: "Start and stop runs",
    Component: lazy(() => import("~/views/jobs")),
  },
  {
    id: "activity",
    path: "/activity",
    title: "Activity",
    icon: "activity",
    key: "a",
    purpose: "What has just happened",
    Component: lazy(() => import("~/views/activity")),
  },
  {
    id: "logs",
    path: "/logs",
    title: "Logs",
    icon: "logs",
    key: "l",
    purpose: "What the processes say",
    Component: lazy(() => import("~/views/logs")),
  },
  {
    id: "settings",
    path: "/settings",
    title: "Settings",
    icon: "settings",
    key: "s",
    purpose: "Each setting and where its value came from",
    Component: lazy(() => import("~/views/settings")),
  },
];

/** The view that shows a path; `/workers/w-7` belongs to the workers. */
export function viewOf(path: string): View | undefined {
  return VIEWS.find((view) => path === view.path || (view.path !== "/" && path.startsWith(`${view.path}/`)));
}
