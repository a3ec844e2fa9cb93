"""Two trees of this project beside each other: processor time of the grid engine, and whether they say the same.

    git archive COMMIT | tar -x -C OLD
    python bench/between.py OLD . [--rounds 3] [--system 35]

Each round runs both trees, one after the other, in processes of their own with one thread: the embedded model, a few
questions on one image of each benchmark, the 63 cells of the default grid. `--system` puts that many positions in front
of the image, as many as a full-size checkpoint's system prompt has (the embedded model has 3).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import click

CHILD = """
import json, sys, time
sys.path[:0] = ["src", "bench"]
import torch
torch.set_num_threads(1)
from grid import ROOT, Work
from headwise.run.settings import load_settings

system = int(sys.argv[1])
work = Work(load_settings(str(ROOT / "configs/default.yaml"), {"controls": "none"}), 1, "cpu", "float32").part()
embeds = work.vlm.system()
if system:
    embeds = embeds.repeat(-(-system // len(embeds)), 1)[:system]
    work.vlm.system = lambda: embeds
work.groups = work.groups[:2]
work.grid()
times = []
for _ in range(int(sys.argv[2])):
    started = time.process_time()
    said = work.grid()
    times.append(time.process_time() - started)
print(json.dumps({"seconds": min(times), "said": [tokens for tokens, _, _ in said.values()]}))
"""


def measured(tree: Path, system: int, repeats: int) -> dict:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": ""}
    command = [sys.executable, "-c", CHILD, str(system), str(repeats)]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{tree}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


@click.command()
@click.argument("old", type=click.Path(exists=True, path_type=Path))
@click.argument("new", type=click.Path(exists=True, path_type=Path))
@click.option("--rounds", default=3)
@click.option("--repeats", default=2, help="runs per process, of which the fastest counts")
@click.option("--system", default=0, help="positions in front of the image; 0: the checkpoint's own")
def main(old: Path, new: Path, rounds: int, repeats: int, system: int) -> None:
    """Print each tree's processor seconds, the ratio per round, and the share of equal answers."""
    found = [(measured(old, system, repeats), measured(new, system, repeats)) for _ in range(rounds)]
    ratios = [a["seconds"] / b["seconds"] for a, b in found]
    pairs = [pair for a, b in found for pair in zip(a["said"], b["said"], strict=True)]
    result = {
        "old_seconds": statistics.median(a["seconds"] for a, _ in found),
        "new_seconds": statistics.median(b["seconds"] for _, b in found),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "answers": len(found[0][0]["said"]),
        "identical": sum(a == b for a, b in pairs) / len(pairs),
    }
    click.echo(json.dumps(result))


if __name__ == "__main__":
    main()
