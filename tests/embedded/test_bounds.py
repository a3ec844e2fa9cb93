"""The bounds that the shipped checkpoint holds, on a sample of the questions, as a study asks them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import RunData
from transformers import CLIPModel, LlavaForConditionalGeneration

from headwise.embedded import CLIP_DIR, MODEL_DIR
from tools.embedded.measure import measure_checkpoint

LIMIT = 120
LEAST = {"textvqa": 80, "mme": 0.85 * 1400, "gqa": 94, "pope": 98, "mmbench": 60, "refcoco": 60}
COUNTS = (500, 400, 300, 245, 225, 205)  # tokens at which divprune keeps what the questions of POPE ask about


def evaluated(folder: Path, *words: str) -> list[RunData]:
    """What the cells' runs logged, of the command line in a folder of its own."""
    store = f"sqlite:///{folder}/mlflow.db"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environ |= {"MLFLOW_TRACKING_URI": store, "PYTHONPATH": str(MODEL_DIR.parents[2])}
    command = [sys.executable, "-m", "headwise", "evaluate", *words]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    client = MlflowClient(store)
    places = [experiment.experiment_id for experiment in client.search_experiments()]
    return [run.data for run in client.search_runs(places, "tags.`headwise.kind` = 'cell'")]


@pytest.fixture(scope="module")
def unpruned(tmp_path_factory) -> dict[str, dict[str, float]]:
    """Metrics of each benchmark."""
    words = ("--strategy", "vanilla", "--controls", "none", "--limit", str(LIMIT))
    cells = evaluated(tmp_path_factory.mktemp("unpruned"), *words)
    return {cell.params["benchmark"]: cell.metrics for cell in cells}


@pytest.mark.parametrize("name", LEAST)
def test_the_unpruned_model_answers(unpruned, name):
    assert unpruned[name]["score"] >= LEAST[name]


def test_quoted_words_are_not_at_chance(unpruned):
    """MME's OCR asks whether a word is on a sign; half of its answers are yes."""
    assert unpruned["mme"]["category/OCR/acc"] >= 75


def test_positions_counted_anew_do_no_harm(tmp_path):
    """Methods before the language model count positions anew; the decoder is at home at every count of them."""
    words = ("--strategy", "divprune", "--tokens", ",".join(map(str, COUNTS)), "--controls", "none")
    cells = evaluated(tmp_path, *words, "--benchmark", "pope", "--limit", "60")
    found = {int(cell.params["tokens"]): cell.metrics["score"] for cell in cells}
    assert found.keys() == set(COUNTS)
    assert min(found.values()) >= 95, found


@pytest.fixture(scope="module")
def seen() -> dict[str, float]:
    return measure_checkpoint(MODEL_DIR)


def test_cls_attention_finds_what_is_there(seen):
    assert seen["foreground"] >= 3


def test_captions_and_images_find_each_other(seen):
    assert seen["retrieval"] >= 0.9


def test_relevance_finds_what_a_text_names_and_its_opposite_does_not(seen):
    assert seen["named"] >= 2
    assert seen["against"] < 1


def test_the_tower_of_the_clip_is_that_of_the_model():
    clip = CLIPModel.from_pretrained(CLIP_DIR).vision_model.state_dict()
    tower = LlavaForConditionalGeneration.from_pretrained(MODEL_DIR).model.vision_tower.state_dict()
    held = {name.removeprefix("vision_model."): value for name, value in tower.items()}
    assert clip.keys() == held.keys()
    assert all(torch.equal(value, held[name]) for name, value in clip.items())
