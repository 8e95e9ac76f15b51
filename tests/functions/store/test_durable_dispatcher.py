"""What durability `commit` promises over a kill -9 of the dispatcher, on each kind of store, seen at the sockets."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest
from blake3 import blake3
from functionkit.peers import BareClient, BareWorker, new_id
from functionkit.processes import DispatcherProcess
from processkit.patience import until
from recordkit.places import Place
from recordkit.redis_server import RedisServer

from strata_zmq.protocol import functions as wire

HUGE = 100_000
KEPT = {"durability": "commit", "keep_s": 600.0}
Start = Callable[..., DispatcherProcess]


@pytest.fixture
def client(dispatcher: DispatcherProcess, ending: ExitStack) -> BareClient:
    return attached(dispatcher, ending)


@pytest.fixture
def enlist(dispatcher: DispatcherProcess, ending: ExitStack) -> Callable[..., BareWorker]:
    def maker(*arguments: str, **options: int) -> BareWorker:
        return enlisted(dispatcher, ending, *arguments, **options)

    return maker


def attached(dispatcher: DispatcherProcess, ending: ExitStack) -> BareClient:
    made = BareClient(dispatcher.endpoint)
    ending.callback(made.close)
    made.attach()
    return made


def enlisted(dispatcher: DispatcherProcess, ending: ExitStack, *arguments: str, **options: int) -> BareWorker:
    made = BareWorker(dispatcher.endpoint, *arguments, **options)  # type: ignore[arg-type]
    ending.callback(made.close)
    made.enlist()
    return made


def call(client: BareClient, payload: bytes = b"call", **limits: object) -> bytes:
    return client.call(payload, **{**KEPT, **limits})


def beat(worker: BareWorker) -> None:
    """Say that it lives, before its lease is over."""
    worker.turn()


def assigned_while_beating(worker: BareWorker) -> list[wire.AssignedTask]:
    beat(worker)
    while worker.socket.poll(50):
        message = wire.decode_at_worker(worker.socket.recv_multipart()[0])
        if isinstance(message, wire.Assign):
            worker.received = message.number
            return message.tasks
    return []


def settled(worker: BareWorker) -> None:
    assert worker.hear(wire.Settled).session == worker.session


def test_a_task_that_waited_is_run_by_the_next_life(dispatcher, client, enlist) -> None:
    task_id = call(client, b"payload")
    dispatcher.restart()
    assert client.attach().seq
    worker = enlist()
    (task,) = worker.assigned()
    assert (task.task_id, task.attempt, task.body) == (task_id, 1, b"payload")
    worker.start(task)
    worker.finish(task, body=b"42")
    row = client.result()
    assert (row.task_id, row.state, row.outcome and row.outcome.body) == (task_id, "COMPLETED", b"42")


def test_a_running_task_whose_worker_lives_delivers_its_result_by_its_number(dispatcher, client, enlist) -> None:
    task_id, worker = call(client), enlist(slots=2)
    (task,) = worker.assigned()
    worker.start(task)
    until(lambda: client.fetch(task_id)[0].state == "RUNNING")
    dispatcher.restart()
    client.attach()
    assert worker.enlist(wire.HeldTask(task_id, task.attempt, "running")).drop == []
    worker.finish(task, body=b"kept")
    row = client.result()
    assert (row.state, row.attempt, row.outcome and row.outcome.body) == ("COMPLETED", 1, b"kept")
    assert worker.hears_nothing(wire.Assign)


def test_a_result_that_was_made_while_nobody_dispatched_is_taken(dispatcher, client, enlist) -> None:
    task_id, worker = call(client), enlist()
    (task,) = worker.assigned()
    worker.start(task)
    dispatcher.kill()
    dispatcher.start()
    assert worker.enlist(wire.HeldTask(task_id, task.attempt, "done")).drop == []
    worker.finish(task, body=b"late, and the only one")
    settled(worker)
    (row,) = attached_again(client).fetch(task_id)
    assert (row.state, row.attempt) == ("COMPLETED", 1)


def attached_again(client: BareClient) -> BareClient:
    client.attach()
    return client


def test_what_a_living_worker_does_not_have_goes_back_to_the_queue_and_costs_no_retry(
    dispatcher, client, enlist
) -> None:
    task_id, worker = call(client), enlist()
    (task,) = worker.assigned()
    dispatcher.restart()
    attached_again(client)
    worker.enlist()
    (again,) = worker.assigned()
    assert (again.task_id, again.attempt) == (task_id, 2)
    worker.start(again)
    worker.finish(task, body=b"of the first attempt")
    worker.finish(again, body=b"of the second")
    row = client.result()
    assert (row.attempt, row.outcome and row.outcome.body) == (2, b"of the second")
    assert client.hears_nothing(wire.Results)


def test_a_task_whose_worker_is_gone_fails_as_lost_after_a_lease(dispatcher, client, enlist) -> None:
    task_id, worker = call(client), enlist()
    worker.start(*worker.assigned())
    until(lambda: client.fetch(task_id)[0].state == "RUNNING")
    dispatcher.kill()
    worker.close()
    dispatcher.start()
    row = attached_again(client).result()
    assert (row.task_id, row.state) == (task_id, "FAILED")
    assert row.outcome is not None
    assert (row.outcome.kind, row.outcome.cause) == ("failure", "worker_lost")


def test_a_result_of_an_attempt_that_was_given_up_is_refused(dispatcher, client, enlist) -> None:
    """The lost worker comes back behind the restart and the second attempt: its number is old."""
    task_id, lost = call(client, retries_lost=1), enlist("lost")
    (first,) = lost.assigned()
    lost.start(first)
    until(lambda: client.fetch(task_id)[0].state == "RUNNING")
    dispatcher.restart()
    attached_again(client)
    other = enlist("other")
    (second,) = until(lambda: assigned_while_beating(other))
    assert second.attempt > first.attempt
    told = lost.enlist(wire.HeldTask(task_id, first.attempt, "done"))
    assert [(one.task_id, one.attempt) for one in told.drop] == [(task_id, first.attempt)]
    lost.finish(first, body=b"too late")
    settled(lost)
    other.start(second)
    other.finish(second, body=b"in time")
    row = client.result()
    assert (row.attempt, row.outcome and row.outcome.body) == (second.attempt, b"in time")


@pytest.mark.parametrize("size", [10, HUGE])
def test_a_result_can_be_read_again_and_again_over_restarts(dispatcher, client, enlist, size: int) -> None:
    task_id, worker = call(client), enlist()
    (task,) = worker.assigned()
    worker.start(task)
    body = bytes(size)
    worker.turn(body, outcomes=[wire.OutcomeRow(task.task_id, task.attempt, "ok", [0])])
    assert client.result().state == "COMPLETED"
    for _ in range(2):
        dispatcher.restart()
        for _ in range(2):
            (row,) = attached_again(client).fetch(task_id)
            assert row.state == "COMPLETED"
            assert row.outcome is not None
            assert (client.frames[row.outcome.body[0]] if size == HUGE else row.outcome.body) == body


def test_a_key_stands_for_its_task_over_a_restart(dispatcher, client) -> None:
    first, again = new_id(), new_id()
    client.submit(wire.NewTask(first, bytes(16), b"call", [], "order-7"), **KEPT)
    dispatcher.restart()
    attached_again(client)
    answer = client.submit(wire.NewTask(again, bytes(16), b"call", [], "order-7"), **KEPT)
    assert answer.existing == [wire.Existing(0, first)]
    other = client.submit(wire.NewTask(new_id(), bytes(16), b"another", [], "order-7"), **KEPT)
    assert [one.code for one in other.refused] == ["already_exists"]


def test_a_registered_function_is_known_over_a_restart(dispatcher, client, enlist) -> None:
    function = new_id()
    client.ask(wire.RegisterFunction, function, "double", b"packed callable")
    client.hear(wire.Stored)
    dispatcher.restart()
    attached_again(client)
    assert not client.submit(wire.NewTask(new_id(), function, b"x"), **KEPT).refused
    worker = enlist()
    assign = worker.hear(wire.Assign)
    assert [blob.body for blob in assign.blobs] == [b"packed callable"]


def test_what_a_task_refers_to_is_there_for_it_in_the_next_life(dispatcher, client, enlist) -> None:
    packed, value = b"a packed callable", bytes(HUGE)
    digests = [blake3(packed).digest(16), blake3(value).digest(16)]
    client.ask(wire.PutBlobs, [wire.Blob(digests[0], packed), wire.Blob(digests[1], [0])], frames=[value])
    client.hear(wire.Stored)
    assert not client.submit(wire.NewTask(new_id(), digests[0], b"x", [digests[1]]), **KEPT).refused
    dispatcher.restart()
    worker = enlist()
    worker.assigned()
    worker.say(wire.WantBlobs(worker.session, digests))
    told = worker.hear(wire.Blobs)
    assert told.missing == []
    assert worker.frames == [value]


@pytest.mark.parametrize(
    "place_of_death",
    [
        "dispatcher.submit.taken",
        "dispatcher.submit.durable",
        "dispatcher.assigned",
        "dispatcher.outcome.taken",
        "dispatcher.outcome.durable",
        "dispatcher.result.sent",
    ],
)
def test_killed_at_any_step_every_task_ends_once(start: Start, place: Place, ending: ExitStack, place_of_death) -> None:
    """Client and worker say again what was not answered, as the protocol asks; nothing is lost, nothing ends twice."""
    dispatcher = start(place.url, env={"STRATA_FAILPOINTS": f"{place_of_death}=kill"})
    client, worker = BareClient(dispatcher.endpoint), BareWorker(dispatcher.endpoint, slots=4)
    ending.callback(client.close)
    ending.callback(worker.close)
    tasks = [wire.NewTask(new_id(), bytes(16), b"%d" % number) for number in range(20)]
    world = _World(dispatcher, client, worker, tasks)
    until(world.turn, timeout_s=30.0, message=world)
    assert world.lives == 2
    assert {row.state for row in world.ends.values()} == {"COMPLETED"}
    for task in tasks:
        (row,) = client.fetch(task.task_id)
        assert row.outcome is not None
        assert row.outcome.body == b"done " + task.body
        assert row.attempt == world.ends[task.task_id].attempt
    assert len(world.ran) == len(set(world.ran)), "an attempt was handed out twice"


class _World:
    """A client that wants its tasks done, and a worker that does them; both go on after their dispatcher died."""

    def __init__(
        self, dispatcher: DispatcherProcess, client: BareClient, worker: BareWorker, tasks: list[wire.NewTask]
    ) -> None:
        self.dispatcher, self.client, self.worker, self.tasks = dispatcher, client, worker, tasks
        self.lives = 0
        self.ends: dict[bytes, wire.TaskRow] = {}
        self.ran: list[tuple[bytes, int]] = []
        self._done: dict[bytes, wire.OutcomeRow] = {}
        self._begin()

    def __repr__(self) -> str:
        return f"life {self.lives}, {len(self.ends)} ends of {len(self.tasks)}, {len(self.ran)} runs"

    def turn(self) -> bool:
        """One look at everything; True when every task has ended."""
        if not self.dispatcher.alive():
            self.dispatcher.start()
            self._begin()
        self._work()
        self._read()
        return len(self.ends) == len(self.tasks)

    def _begin(self) -> None:
        self.lives += 1
        self.client.reconnect()
        self.worker.reconnect()
        # Both are said before anything is awaited: the dispatcher may die of the first of them.
        held = [wire.HeldTask(row.task_id, row.attempt, "done") for row in self._done.values()]
        self.worker.session = self.worker.number = self.worker.received = 0
        self.worker.say(wire.Enlist(self.worker.worker_id, 4, "push", "3.11", held=held))
        self.client.ask(wire.Attach, self.client.client_id, wire.FUNCTIONS_VERSION, "", True, "")
        self.client.ask(wire.Submit, wire.LimitsRow(**KEPT), self.tasks)
        self.client.ask(wire.Watch, [task.task_id for task in self.tasks], 60.0)

    def _work(self) -> None:
        if self.worker.session:
            beat(self.worker)
        while self.worker.socket.poll(10):
            message = wire.decode_at_worker(self.worker.socket.recv_multipart()[0])
            if isinstance(message, wire.Enlisted):
                self.worker.session = message.session
                dropped = {one.task_id for one in message.drop}
                self._done = {task_id: row for task_id, row in self._done.items() if task_id not in dropped}
                if self._done:
                    self.worker.turn(outcomes=list(self._done.values()))
            elif isinstance(message, wire.Assign):
                self.worker.received = message.number
                self.worker.start(*message.tasks)
                for task in message.tasks:
                    self.ran.append((task.task_id, task.attempt))
                    row = wire.OutcomeRow(task.task_id, task.attempt, "ok", b"done " + bytes(task.body))
                    self._done[task.task_id] = row
                self.worker.turn(outcomes=[self._done[task.task_id] for task in message.tasks])

    def _read(self) -> None:
        while self.client.socket.poll(10):
            message = wire.decode_at_client(self.client.socket.recv_multipart()[0])
            if isinstance(message, wire.Results | wire.Answers):
                for row in message.rows:
                    assert row.state == "COMPLETED", row
                    known = self.ends.setdefault(row.task_id, row)
                    assert known.attempt == row.attempt, "another attempt's result was delivered"
            if isinstance(message, wire.Results):
                self.client.say(wire.Seen(message.number))


def test_a_hundred_thousand_queued_tasks_outlive_the_dispatcher(dispatcher, client, ending: ExitStack) -> None:
    ids = [new_id() for _ in range(HUGE)]
    for begin in range(0, HUGE, 10_000):
        tasks = [wire.NewTask(task_id, bytes(16), b"call") for task_id in ids[begin : begin + 10_000]]
        assert not client.submit(*tasks, durability="commit").refused
    dispatcher.restart()
    attached_again(client)
    assert client.counts().queued == HUGE
    worker = enlisted(dispatcher, ending, slots=4096)
    order: list[bytes] = []
    ended: set[bytes] = set()
    while len(ended) < HUGE:
        if len(order) < HUGE:
            tasks = worker.assigned()
            order += [task.task_id for task in tasks]
            worker.finish(*tasks)
        while client.socket.poll(0 if len(order) < HUGE else 10_000):
            message = wire.decode_at_client(client.socket.recv_multipart()[0])
            if isinstance(message, wire.Results):
                ended.update(row.task_id for row in message.rows if row.state == "COMPLETED")
                client.say(wire.Seen(message.number))
            if len(ended) == HUGE:
                break
    assert order == ids
    assert ended == set(ids)


def test_a_redis_server_that_is_restarted_in_between_costs_nothing(
    start: Start, redis_server: RedisServer, ending: ExitStack
) -> None:
    dispatcher = start(redis_server.database())
    client, worker = attached(dispatcher, ending), enlisted(dispatcher, ending, slots=2)
    for number in range(3):
        redis_server.restart()
        task_id = call(client, b"%d" % number)
        redis_server.restart()
        (task,) = worker.assigned()
        worker.start(task)
        redis_server.restart()
        worker.finish(task, body=b"done")
        assert client.result().task_id == task_id
        if number == 1:
            redis_server.restart()
            dispatcher.restart()
            attached_again(client)
            worker.enlist()
        assert client.fetch(task_id)[0].state == "COMPLETED"


def test_a_redis_server_that_forgot_ends_the_dispatcher_before_it_says_anything(
    start: Start, tmp_path, ending: ExitStack
) -> None:
    server = RedisServer(tmp_path, "--appendonly", "no")
    ending.callback(server.kill)
    dispatcher = start(server.database())
    client = attached(dispatcher, ending)
    call(client)
    server.restart()
    client.ask(wire.Submit, wire.LimitsRow(**KEPT), [wire.NewTask(new_id(), bytes(16), b"x")])
    assert dispatcher.wait() == 1
    assert client.hears_nothing(wire.SubmittedReply)
    assert "has lost what it had confirmed" in dispatcher.log.read_text()


def test_two_dispatchers_do_not_share_a_store(start: Start, place: Place, ending: ExitStack) -> None:
    """On a file the second does not start; in a Redis database the first is fenced, and says nothing more."""
    first = start(place.url)
    client = attached(first, ending)
    call(client)
    if place.url.startswith("sqlite"):
        with pytest.raises(pytest.fail.Exception, match="in use by another dispatcher"):
            start(place.url)
        return
    first_endpoint = first.endpoint
    second = start(place.url, "--endpoint", f"{first_endpoint}-2")
    client.ask(wire.Submit, wire.LimitsRow(**KEPT), [wire.NewTask(new_id(), bytes(16), b"x")])
    assert first.wait() == 1
    assert client.hears_nothing(wire.SubmittedReply)
    other = BareClient(f"{first_endpoint}-2")
    ending.callback(other.close)
    other.attach()
    assert other.counts().queued == 1
    second.stop()


def test_without_a_store_a_task_of_durability_commit_is_refused(start: Start, ending: ExitStack) -> None:
    client = attached(start("none"), ending)
    answer = client.submit(wire.NewTask(new_id(), bytes(16), b"x"), durability="commit")
    assert [one.code for one in answer.refused] == ["invalid_argument"]
    assert not client.submit(wire.NewTask(new_id(), bytes(16), b"x")).refused
