"""The script that measures a large study, on a tiny one: every step runs, and compare believes the scores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_tiny_study_goes_through_every_step():
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "bench")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "bench/study_scale.py", "--cells", "4", "--fraction", "0.001", "--json"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["cells"], found["questions"]) == (4, 30)
    assert found["spool_bytes"] > 30 * 4 * 100
    assert list(found["steps"]) == ["plan", "spool", "score", "store (copied runs)", "compare"]
    assert all(step["seconds"] > 0 and step["peak_mib"] > 50 for step in found["steps"].values())
