"""The whole recipe from nothing, one step per stage: what it exports is what it trained, and it is never done twice."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from PIL import Image

from headwise.methods._clip import patch_embeddings
from headwise.models.clip_text import ClipText
from headwise.models.tower import Tower
from tools.embedded.__main__ import command
from tools.embedded.contrast import measure
from tools.embedded.measure import measure_checkpoint, unseen_scenes
from tools.embedded.render import render
from tools.embedded.tower import to_pixels
from tools.embedded.train import load_aligner, train_all

ONE_STEP = 1e-9
SCENES = 66  # of the last stage, which holds out 64


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path]:
    """The folders of the checkpoint and of the training state."""
    folder = tmp_path_factory.mktemp("recipe")
    out, work = folder / "model", folder / "work"
    train_all(out, work, scale=ONE_STEP, processes=1, scenes=SCENES)
    return out, work


def test_every_stage_ran_and_the_checkpoint_stays_small(trained):
    out, work = trained
    assert {path.stem for path in work.glob("*.jsonl")} == {"tower", "language", "fit", "align", "tune"}
    assert sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) < 20e6


def test_the_same_command_again_trains_nothing(trained):
    out, work = trained
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in work.glob("*.pt")}
    train_all(out, work, scale=ONE_STEP, processes=1, scenes=SCENES)
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in work.glob("*.pt")} == before


def test_curves_are_drawn_and_those_of_a_run_without_the_aid_beside_them(trained, tmp_path):
    """It is one line more in the picture, and the rest of it stays."""
    _, work = trained
    for name, words in {"alone.png": [], "beside.png": ["--unguided", str(work)]}.items():
        done = CliRunner().invoke(command, ["curve", "--work", str(work), *words, "--out", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
    alone, beside = (np.asarray(Image.open(tmp_path / name)) for name in ("alone.png", "beside.png"))
    assert alone.shape == beside.shape
    changed = (alone != beside).any(-1).nonzero()[1]
    assert len(changed)
    assert changed.min() > alone.shape[1] / 2


def test_methods_read_the_text_tower_that_was_trained(trained):
    out, work = trained
    towers = load_aligner(work).towers.eval()
    text = ClipText(str(out / "clip"), 96)
    asked = "What color is the star?\nAnswer the question using a single word or phrase."
    with torch.no_grad():
        expected = towers.text.texts([asked])
    for how in ("clip_segments", "clip_truncated"):
        assert torch.allclose(F.normalize(text.embed(asked, how), dim=-1), expected, atol=1e-5)


def test_methods_read_the_patches_that_were_trained(trained):
    out, work = trained
    towers = load_aligner(work).towers.eval()
    pixels = to_pixels(unseen_scenes(2))
    needs = ("attention_HV", "post_ln_weight", "post_ln_bias")
    vision = Tower(towers.classifier.tower, torch.nn.Identity(), -1).signals(pixels, needs)[1]
    projection_EC = ClipText(str(out / "clip"), 96).visual_projection_EC
    with torch.inference_mode():
        found_VE = patch_embeddings(replace(vision, visual_projection_EC=projection_EC))
        states_BNC = towers.classifier.states(pixels)
        expected_VE = towers.embed(states_BNC)[1, 1:]
    assert torch.allclose(vision.hidden_NC, states_BNC[1], atol=1e-5)
    assert torch.allclose(F.normalize(found_VE, dim=-1), expected_VE, atol=1e-5)


def test_the_checkpoint_is_measured_as_training_measures_it(trained):
    out, work = trained
    found, trained_as = measure_checkpoint(out), measure(load_aligner(work).towers.eval())
    assert found.keys() == trained_as.keys()
    assert found["foreground"] == pytest.approx(trained_as["foreground"], abs=0.02)  # ties of an untrained tower


def test_the_image_processor_gives_the_pixels_of_training(trained):
    from transformers import AutoImageProcessor

    scene = unseen_scenes(1)[0]
    processor = AutoImageProcessor.from_pretrained(trained[0] / "clip", backend="pil")
    pixels = processor(images=Image.fromarray(render(scene)), return_tensors="pt")["pixel_values"]
    assert torch.allclose(pixels, to_pixels([scene]), atol=1e-5)


def test_the_logs_say_what_the_towers_find(trained):
    row = json.loads((trained[1] / "tower.jsonl").read_text().splitlines()[-1])
    assert {"retrieval", "foreground", "named", "against"} <= row.keys()
