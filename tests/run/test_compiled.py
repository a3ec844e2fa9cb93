"""Compiled norms and MLPs: the same answers, kept and logged apart; refused in one line where torch cannot compile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import headwise
from headwise.engine import Engine, Question
from headwise.engine.compiled import compile_layers
from headwise.models.checkpoint import Vlm, find_checkpoint
from headwise.models.decoder import Decoder
from headwise.run.cell_runs import cell_params
from headwise.run.evaluate import Job
from headwise.run.settings import load_settings
from headwise.study.cells import Cell

SOURCE = Path(headwise.__file__).parents[1]
CELLS = [Cell(strategy="vanilla", tokens=576), Cell(strategy="sum", tokens=64, heads=8, budget="kept")]
PROMPTS = ["Is there a ball in the image?", "How many balls are there?"]


@pytest.fixture(scope="module")
def answers():
    """Branches of the embedded checkpoint, as it is and compiled."""
    vlm = Vlm(find_checkpoint("embedded"), device="cpu")
    torch.manual_seed(3)
    images = vlm.encode_images([torch.rand(3, 192, 192)])
    asked = [Question(0, vlm.question(prompt), prompt) for prompt in PROMPTS]
    decoder, found = Decoder(vlm.model), []
    for compiled in (False, True):
        if compiled:
            compile_layers(decoder)
        engine = Engine(decoder, vlm.system(), CELLS, vlm.visual, 4, keep_logits=True)
        found.append([branch for row in engine.answer(images, asked) for branch in row])
    return found


def test_answers_are_the_same_and_logits_nearly(answers):
    plain, compiled = answers
    assert [branch.tokens for branch in compiled] == [branch.tokens for branch in plain]
    assert [branch.kept_R.tolist() for branch in compiled] == [branch.kept_R.tolist() for branch in plain]
    for one, other in zip(plain, compiled, strict=True):
        torch.testing.assert_close(one.logits, other.logits, rtol=0, atol=1e-4)


def test_it_is_off_unless_asked_for_and_logged_where_it_is_on(monkeypatch):
    monkeypatch.setattr("headwise.run.evaluate.check_compiler", lambda kind: None)
    given = {"model": "embedded", "data_dir": "embedded", "benchmark": "pope", "budget": "kept", "limit": "2"}
    off, on = (Job.of(load_settings(None, given | more)) for more in ({}, {"compile": "true"}))
    assert not off.study.compile
    assert "compile" not in cell_params(off, off.tasks[0], off.cells[0])
    assert cell_params(on, on.tasks[0], on.cells[0])["compile"] is True


def test_without_a_compiler_it_is_one_line(tmp_path):
    words = "run --compile true --benchmark pope --strategy sum --limit 2 --budget kept --offline"
    paths = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"), "HEADWISE_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "headwise", *words.split()]
    environment = os.environ | paths | {"CXX": str(tmp_path / "no-compiler"), "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    [line] = done.stderr.strip().splitlines()
    assert "compile: torch cannot compile for cpu here" in line
