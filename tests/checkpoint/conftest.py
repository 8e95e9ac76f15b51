"""What is collected here: tests of torch tensors exist where torch is installed (`pip install strata-zmq[torch]`)."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore = [] if find_spec("torch") else ["test_restore_torch.py"]
