"""Texts of the demo: what a hanging worker's threads say, settings, tracebacks. Nothing in it was measured."""

from __future__ import annotations

from strata_zmq.protocol.sight_rows import SettingSight

__all__ = ["FAILURES", "PLANE_SETTINGS", "SETTINGS", "STACKS"]

STACKS = """\
Thread 0x00007f1c8e7fc640 [strata-heartbeat] (most recent call first):
  File "/usr/lib/python3.12/threading.py", line 359 in wait
  File "/srv/strata/workers/session.py", line 214 in _beat

Thread 0x00007f1c8f7fe640 [prefetch] (most recent call first):
  File "/srv/app/images.py", line 88 in read_archive
  File "/srv/app/images.py", line 52 in batches
  File "/srv/strata/workers/batches.py", line 140 in _fill

Current thread 0x00007f1ca3b4c740 [MainThread] (most recent call first):
  File "/usr/lib/python3.12/queue.py", line 180 in get
  File "/srv/strata/workers/batches.py", line 97 in __next__
  File "/srv/app/train.py", line 41 in main
  File "/srv/app/train.py", line 66 in <module>
"""

FAILURES = (
    (
        "ValueError",
        "row 118 has 7 columns, and the header has 8",
        (
            "Traceback (most recent call last):\n"
            '  File "/srv/app/features.py", line 41, in featurize\n'
            "    values = parse(row)\n"
            '  File "/srv/app/features.py", line 17, in parse\n'
            '    raise ValueError(f"row {row.number} has {len(row)} columns, and the header has {width}")\n'
            "ValueError: row 118 has 7 columns, and the header has 8\n"
        ),
    ),
    (
        "KeyError",
        "'label'",
        (
            "Traceback (most recent call last):\n"
            '  File "/srv/app/features.py", line 44, in featurize\n'
            '    label = row["label"]\n'
            "KeyError: 'label'\n"
        ),
    ),
)
"""Type, message and traceback."""

SETTINGS = (
    SettingSight(name="control", value="tcp://0.0.0.0:50051", source="default"),
    SettingSight(name="job", value="demo", source="option"),
    SettingSight(name="journal", value="/var/lib/strata/journal.sqlite", source="option"),
    SettingSight(name="lease_s", value="3.0", source="derived"),
    SettingSight(name="hang_s", value="8.0", source="option"),
    SettingSight(name="token", value="set", source="environment"),
)

PLANE_SETTINGS = (
    SettingSight(name="endpoint", value="tcp://0.0.0.0:5555", source="default"),
    SettingSight(name="mode", value="pull", source="option"),
    SettingSight(name="store", value="memory", source="default"),
    SettingSight(name="task_deadline_s", value="10.0", source="option"),
)
