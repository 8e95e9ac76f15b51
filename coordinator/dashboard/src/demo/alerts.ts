// What a person should look at in the simulated job, by the rules that the API has for a real one.
import type { Alert } from "~/api/types";
import { coordinatorOf, goodputOf } from "./figures";
import type { World } from "./world";

const RECENT_MS = 600_000;
const SLOW_BARRIER_MS = 10_000;

export function alertsOf(world: World): Alert[] {
  const { now } = world;
  const alerts: Alert[] = [];
  const add = (alert: Omit<Alert, "id">) => alerts.push({ ...alert, id: `${alert.kind}/${alert.subject}` });
  if (world.gone) {
    add({
      kind: "coordinator_gone",
      level: "error",
      text: "the coordinator has said nothing since then",
      way_out: "Look at its log; workers go on by themselves once it is started again with the same journal.",
      subject: "",
      since: coordinatorOf(world).since ?? now,
    });
  }
  for (const hang of world.hangs) {
    add({
      kind: "hang",
      level: "error",
      text: `${hang.worker_id} does not move, and ${hang.waiter_count} wait for it`,
      way_out: "Its stacks show where it stands; restart it if it cannot go on.",
      subject: hang.worker_id,
      since: hang.since,
    });
  }
  for (const member of world.members) {
    if (member.lostReason === "") continue;
    add({
      kind: "worker_lost",
      level: "warning",
      text: `${member.id} is lost: ${member.lostReason}`,
      way_out: "The others go on without it; start it again to have it back.",
      subject: member.id,
      since: member.heardAt,
    });
  }
  for (const row of world.checkpoints.rows()) {
    if (row.status !== "aborted" || row.created_at < now - RECENT_MS) continue;
    add({
      kind: "checkpoint_aborted",
      level: "warning",
      text: `${row.id} was given up: ${row.reason}`,
      way_out: "The checkpoint before it is whole; look at the writers' logs.",
      subject: row.id,
      since: row.created_at,
    });
  }
  const { open } = world.barriers;
  if (open !== null && open.created_at < now - SLOW_BARRIER_MS) {
    add({
      kind: "barrier_slow",
      level: "warning",
      text: `the barrier of step ${open.step} waits for ${open.missing.join(", ")}`,
      way_out: "See what those do on the timeline.",
      subject: open.id,
      since: open.created_at,
    });
  }
  if (world.lowSince !== null) {
    add({
      kind: "goodput_low",
      level: "warning",
      text: `only ${goodputOf(world).percent} % of the workers' time is spent training`,
      way_out: "The timeline shows what the rest goes into.",
      subject: "",
      since: world.lowSince,
    });
  }
  return alerts;
}
