"""The bounds that the shipped checkpoint holds, on a sample of the questions, as a study asks them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import CLIPModel, LlavaForConditionalGeneration

from headwise.embedded import CLIP_DIR, MODEL_DIR
from tools.embedded.measure import measure_checkpoint

SOURCE = MODEL_DIR.parents[2]
LIMIT = 120
LEAST = {"textvqa": 80, "mme": 0.85 * 1400, "gqa": 94, "pope": 98, "mmbench": 60, "refcoco": 60}


@pytest.fixture(scope="module")
def scores(tmp_path_factory) -> dict[str, float]:
    """Score of each benchmark, unpruned."""
    folder = tmp_path_factory.mktemp("unpruned")
    headwise(folder, "evaluate", "--strategy", "vanilla", "--controls", "none", "--limit", str(LIMIT))
    found = json.loads(headwise(folder, "compare", "--json", "--no-report"))["benchmarks"]
    return {name: part["cells"][0]["score"] for name, part in found.items()}


def headwise(folder: Path, *words: str) -> str:
    """Run the command line in a folder; its standard output."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environ |= {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-m", "headwise", *words]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", LEAST)
def test_the_unpruned_model_answers(scores, name):
    assert scores[name] >= LEAST[name]


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
