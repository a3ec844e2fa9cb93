"""The packaged studies of all methods: whole, feasible, at equal means but for what they say themselves."""

from __future__ import annotations

import re

import pytest
from models.clip_files import write_tiny_clip
from survival import write_bundle
from tiny_llava import write_tiny_llava

from headwise.errors import ConfigError
from headwise.methods import METHODS, BeforeMethod
from headwise.methods.stages import mean_tokens, stages_of
from headwise.run.evaluate import Job
from headwise.run.layers import layer_lines
from headwise.run.settings import load_settings
from headwise.study.cells import Geometry
from headwise.study.names import CONTROLS
from headwise.system.packaged import study_file

PORTS = {"pdrop@ancestor", "sparsevlm@ancestor"}
METHOD = {name for name, method in METHODS.items() if method.role == "method"} - PORTS
CONTROL = {name for name, method in METHODS.items() if method.role == "control"}
LLAVA, EMBEDDED = Geometry(layers=32, heads=32, visual=576), Geometry(layers=8, heads=32, visual=576)


@pytest.mark.parametrize(
    ("name", "methods", "geometry", "tokens"),
    [
        ("methods", METHOD, EMBEDDED, [225, 195, 165]),
        ("methods-llava-1.5-7b", METHOD, LLAVA, [192, 128, 64]),
    ],
)
def test_every_method_is_there_and_every_budget_can_be_met(name, methods, geometry, tokens):
    study = load_settings(study_file(name), {})
    assert set(study.strategy) == methods
    assert set(study.controls) == {"vanilla", "random_tokens", *CONTROL}
    assert (study.tokens, study.budget) == (tokens, "average")
    cells = study.cells(geometry)
    assert len(cells) == 1 + len(tokens) * (len(methods) + len(study.controls) - 1)
    apart = {c.strategy for c in cells if abs(mean_tokens(c, geometry) - c.tokens) > 0.5 and c.strategy not in CONTROLS}
    assert apart == ({"downsample"} if geometry is EMBEDDED else {"downsample", "dart"})


def test_few_tokens_are_reached_by_every_method_before_the_language_model():
    study = load_settings(study_file("methods-few-tokens"), {})
    before = {name for name in METHOD if isinstance(METHODS[name], BeforeMethod)}
    assert set(study.strategy) == before
    assert set(study.controls) == {"vanilla", *CONTROL}
    cells = study.cells(EMBEDDED)
    assert len(cells) == 1 + 3 * (len(before) + len(CONTROL))
    assert {mean_tokens(cell, EMBEDDED) for cell in cells} == {576, 64, 36, 16}
    assert all(mean_tokens(cell, EMBEDDED) == cell.tokens for cell in cells)


def test_the_counts_that_the_file_names_are_those_of_its_cells():
    text = study_file("methods-llava-1.5-7b").read_text(encoding="utf-8")
    cells = load_settings(study_file("methods-llava-1.5-7b"), {}).cells(LLAVA)
    of = {(cell.strategy, cell.tokens): cell for cell in cells}
    kept = [str(stages_of(of["fastv", tokens], LLAVA)[0].rows) for tokens in (192, 128, 64)]
    means = [f"{mean_tokens(of['dart', tokens], LLAVA):g}" for tokens in (192, 128, 64)]
    squares = [f"{mean_tokens(of['downsample', tokens], LLAVA):g}" for tokens in (192, 128, 64)]
    words = " ".join(re.sub(r"^#", "", text, flags=re.M).split())
    for found in (kept, means, squares):
        assert "{}, {} and {}".format(*found) in words


def test_the_study_of_llava_is_planned_on_a_checkpoint_of_its_shape(tmp_path):
    model = write_tiny_llava(tmp_path / "model", layers=32, heads=32, side=24, width=64)
    (tmp_path / "clip").mkdir()
    given = {"model": model, "clip": write_tiny_clip(tmp_path / "clip"), "data_dir": write_bundle(tmp_path / "eval", 1)}
    settings = {name: str(value) for name, value in given.items()} | {"benchmark": "gqa", "dtype": "float32"}
    job = Job.of(load_settings(study_file("methods-llava-1.5-7b"), settings))
    assert job.checkpoint.geometry == LLAVA
    lines = layer_lines(job.cells, LLAVA)
    shown = {name for _, line in lines for name in line.rpartition(": ")[2].split(", ")}
    assert shown == {*METHOD, *CONTROL, "vanilla", "random_tokens"}
    assert all(re.search(r"\(mean \d+\.\d\d\): ", line) for _, line in lines)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"tokens": "32"}, "tokens: 32 .*feasible budgets are 37 to 576"),
        ({"strategy": "dart", "controls": "none", "tokens": "32"}, "smallest feasible budget is 40"),
        ({"strategy": "sparsevlm", "controls": "none", "tokens": "32"}, "feasible budgets are 58 to 576"),
        (
            {"strategy": "divprune", "controls": "pool", "tokens": "61"},
            "not feasible for pool; the smallest feasible .* is 1 ",
        ),
    ],
)
def test_what_cannot_be_met_names_the_smallest_budget_that_can(changed, words):
    study = load_settings(study_file("methods-llava-1.5-7b"), changed)
    with pytest.raises(ConfigError, match=words):
        study.cells(LLAVA)
