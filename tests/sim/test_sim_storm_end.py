"""The time in which a job has to recover begins when the last fault is over, not when the last one begins."""

from __future__ import annotations

from dataclasses import replace

from simulator import Simulation
from simulator.network import Conditions
from simulator.plan import Plan
from simulator.storm import Storm

SLOW_S = 8.0


def test_an_append_to_a_slow_disk_that_begins_before_the_storms_end_is_the_storms() -> None:
    simulation = Simulation(1)
    simulation.coordinator.sync_s = SLOW_S
    simulation.coordinator.start()
    storm = Storm(simulation)
    storm.end()
    assert storm.passed_at >= simulation.timeline.now + SLOW_S / 2
    assert simulation.watch.durable.term == 0
    simulation.timeline.run(storm.passed_at)
    assert simulation.watch.durable.term == 1


def test_a_message_that_was_slow_on_its_way_is_the_storms_too() -> None:
    simulation = Simulation(1)
    simulation.network.conditions = Conditions(slow=1.0, slow_s=SLOW_S)
    simulation.coordinator.start()
    simulation.start_worker("w0")
    simulation.timeline.run(1.0)
    storm = Storm(simulation)
    storm.end()
    assert storm.passed_at > simulation.timeline.now
    assert storm.passed_at == max(link.up_at for link in simulation.network.links.values())


def test_a_slow_disk_is_a_fast_one_after_the_storm_however_long_it_was_to_last() -> None:
    """What ends a fault after the storm does not bring back the storm's disk."""
    plan = replace(Plan.draw(Simulation(1).rng), slow_disk=1.0, sync_s=0.5, storm_s=20.0)
    simulation = Simulation(1, plan=plan)
    outcome = simulation.run()
    simulation.timeline.run(simulation.timeline.now + 5.0)
    assert outcome.counts["BarrierReleased"] > 0
    assert simulation.coordinator.sync_s < plan.sync_s
