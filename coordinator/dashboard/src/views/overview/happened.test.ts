import { describe, expect, it } from "vitest";
import type { Barrier, Event, Hang } from "~/api/types";
import { eventMarks } from "~/components/events/marks";
import { happenings } from "./happenings";
import { AWAITED_MS, awaited, lateness } from "./late";

const event = (number: number, kind: string, level: Event["level"] = "info"): Event => ({
  number,
  at: number * 1000,
  kind,
  level,
  text: `${kind} ${number}`,
  subject: "",
  worker_id: "",
  origin: "coordinator",
});
const barrier = (parts: Partial<Barrier>): Barrier =>
  ({
    id: "b",
    name: "step",
    step: 5,
    status: "complete",
    broken: false,
    slowest: [],
    missing: [],
    arrived: 2,
    ...parts,
  }) as Barrier;

describe("what just happened", () => {
  it("tells the newest first", () => {
    const rows = happenings([event(1, "epoch"), event(2, "generation")], 10);
    expect(rows.map(({ text }) => text)).toEqual(["generation 2", "epoch 1"]);
  });

  it("tells three and more of a kind in a row as one, which leads to all of them", () => {
    const joined = [1, 2, 3, 4].map((number) => event(number, "worker_joined"));
    const rows = happenings([...joined, event(5, "generation")], 10);
    expect(rows.map(({ kind, count }) => [kind, count])).toEqual([
      ["generation", 1],
      ["worker_joined", 4],
    ]);
    expect(rows[1]?.href).toBe("/activity?from=1000&to=4000");
    expect(rows[1]?.text).toBe("worker_joined 4");
  });

  it("keeps a run's name while the run grows", () => {
    const joined = [1, 2, 3].map((number) => event(number, "worker_joined"));
    const before = happenings(joined, 10)[0]?.id;
    expect(happenings([...joined, event(4, "worker_joined")], 10)[0]?.id).toBe(before);
  });

  it("leaves two alone, never mixes levels, and tells no more than asked for", () => {
    const rows = [event(1, "refused"), event(2, "refused"), event(3, "refused", "warning"), event(4, "note", "debug")];
    expect(happenings(rows, 10).map(({ text }) => text)).toEqual(["refused 3", "refused 2", "refused 1"]);
    expect(happenings(rows, 2)).toHaveLength(2);
  });

  it("marks on the charts what can be seen in a rate, and nothing else", () => {
    const marks = eventMarks([event(1, "worker_lost", "error"), event(2, "task_failed", "warning")]);
    expect(marks).toEqual([
      { at: 1, label: "worker_lost 1", tone: "danger", icon: "x-circle", href: "/activity?at=1000" },
    ]);
  });
});

describe("who is late", () => {
  const hang = { worker_id: "w-2", where: "step 5", since: 3_000, waiter_count: 7 } as Hang;
  const open = barrier({ status: "waiting", created_at: 1_000, missing: ["w-1", "w-2"], arrived: 7 });

  it("says nothing of a barrier that has only just opened", () => {
    expect(awaited([open], [], 1_000 + AWAITED_MS - 1)).toEqual([]);
    expect(awaited([open], [], 1_000 + AWAITED_MS).map(({ id }) => id)).toEqual(["w-1", "w-2"]);
  });

  it("tells a worker that hangs once, as hanging", () => {
    const rows = awaited([open], [hang], 9_000);
    expect(rows.map(({ id, hanging, waiters }) => [id, hanging, waiters])).toEqual([
      ["w-1", false, 7],
      ["w-2", true, 7],
    ]);
  });

  it("counts who came last, and leaves out barriers that broke or did not tell", () => {
    const late = (worker_id: string, late_ms: number) => ({ worker_id, late_ms });
    const told = lateness(
      [
        barrier({ slowest: [late("a", 1), late("b", 40)] }),
        barrier({ slowest: [late("b", 90)] }),
        barrier({ slowest: [late("a", 500)], broken: true }),
        barrier({ slowest: [] }),
        barrier({ slowest: [late("a", 70)] }),
        barrier({ slowest: [late("c", 900)] }),
      ],
      3,
    );
    expect(told).toEqual({
      barriers: 3,
      latecomers: [
        { id: "b", times: 2, most_ms: 90 },
        { id: "a", times: 1, most_ms: 70 },
      ],
    });
  });
});
