"""The script for a GPU on a small model: it must not fail on the day when there is one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_script_for_a_gpu_runs_and_prints_what_it_promises():
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "bench")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    sizes = ["--dtype", "float32", "--questions", "4", "--rounds", "1", "--single", "2", "--steps", "3"]
    command = [sys.executable, "bench/gpu.py", "--tiny", "--json", *sizes]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["answers compared"] == 2 * 2 * found["cells"]
    assert found["different beyond rounding"] == 0
    assert found["identical"] > 0.9
    assert found["published study, minutes"] > 0
    assert 0 < found["share of peak, branch prefill"] < 1
    assert found["stage calls per window"]["branch prefill"] >= 2
    assert found["host syncs per window"] is None or found["host syncs per window"] > 0
