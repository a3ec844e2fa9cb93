"""The script that times compiled norms and MLPs, on a family's random checkpoint: both ways answer, and alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_both_ways_answer_alike():
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "bench")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    words = ["--family", "qwen2_5_vl", "--images", "1", "--rounds", "1", "--threads", "1", "--json"]
    command = [sys.executable, "bench/compiled.py", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["questions"], found["cells"]) == (6, 63)
    assert found["identical"] == 1
    assert found["ratio"] == found["seconds"]["plain"] / found["seconds"]["compiled"]
