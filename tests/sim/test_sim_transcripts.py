"""The important scenes, as text that people can read: what is said in each is what stands in its file.

`scripts/test tests/sim/test_sim_transcripts.py --rewrite` writes the files anew; read the difference.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from simulator.play import play

SCENES = sorted((Path(__file__).resolve().parent / "transcripts").glob("*.txt"))


@pytest.mark.parametrize("path", SCENES, ids=lambda path: path.stem)
def test_the_job_says_what_the_transcript_says(path: Path, request: pytest.FixtureRequest) -> None:
    written = path.read_text()
    said = play(written)
    if request.config.getoption("--rewrite", default=False):
        path.write_text(said)
    else:
        assert said == written
