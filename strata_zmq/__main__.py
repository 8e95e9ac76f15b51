"""`python -m strata_zmq`: the `strata` command."""

from __future__ import annotations

import sys

from strata_zmq.cli import main

if __name__ == "__main__":
    sys.exit(main())
