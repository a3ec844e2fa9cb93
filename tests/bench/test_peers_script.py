"""The script that measures headwise beside its peers, without lmms-eval: it must name what it could not run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def peers():
    sys.path.insert(0, str(ROOT / "bench"))
    try:
        import peers
    finally:
        sys.path.remove(str(ROOT / "bench"))
    return peers


@pytest.fixture(scope="module")
def asked(peers):
    job = peers.Job.of(peers.study(2))
    return [(s, task.benchmark.image_path(task.data_dir, s)) for task in job.tasks for s in task.samples]


def interpreter(folder: Path, body: str) -> str:
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\n{body}")
    path.chmod(0o755)
    return str(path)


def test_the_script_measures_every_peer_that_is_there_and_names_the_one_that_is_not(tmp_path):
    absent = interpreter(tmp_path, "raise ModuleNotFoundError(\"No module named 'lmms_eval'\")")
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "bench")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "bench/peers.py", "--limit", "1", "--grid", "2", "--threads", "1", "--lmms", absent]
    done = subprocess.run([*command, "--json"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["not run"] == {"lmms-eval llava_hf, unpruned": "ModuleNotFoundError: No module named 'lmms_eval'"}
    assert [(row["cells"], row["compared"]) for row in found["rows"]] == [(1, 0), (1, 0), (1, 2), (1, 2), (4, 4)]
    assert all(row["equal"] == row["compared"] and row["questions per second"] > 0 for row in found["rows"])


def test_answers_of_lmms_eval_come_back_in_question_order(peers, asked, tmp_path):
    echo = (
        "import json, sys\n"
        "rows = {n: map(json.loads, open(n + '.jsonl')) for n in ('pope', 'gqa')}\n"
        "said = {f'embedded_{n}': [row['question'] + ' ' for row in each] for n, each in rows.items()}\n"
        "json.dump({'seconds': 2.0, 'cpu_seconds': 3.0, 'answers': said}, open(sys.argv[3], 'w'))\n"
    )
    said, spent = peers.lmms_row(interpreter(tmp_path, echo), asked)
    assert said == [sample.prompt for sample, _ in asked]
    assert spent == {"seconds": 2.0, "cpu_seconds": 3.0}


@pytest.mark.parametrize("python", [None, "/no/such/python"])
def test_without_an_interpreter_there_is_a_reason(peers, asked, python):
    assert isinstance(peers.lmms_row(python, asked), str)


def test_fastv_leaves_its_rows_in_the_upper_layers_only(peers, asked):
    model, seen = peers.Transformers(), []
    hook = model.model.model.language_model.register_forward_hook(lambda *found: seen.append(found[-1].past_key_values))
    sample, image = asked[0]
    with model.fastv():
        model.answer(sample.prompt, image)
    hook.remove()
    lengths = [layer.get_seq_length() for layer in seen[-1].layers]
    assert set(lengths[: peers.LAYER]) == {lengths[0]}
    assert set(lengths[peers.LAYER :]) == {lengths[0] - 576 + peers.TOKENS}
    model.answer(sample.prompt, image)  # outside of the block nothing is cut
    assert not model.model.model.language_model.layers[peers.LAYER]._forward_pre_hooks
