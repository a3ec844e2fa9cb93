"""What choosing before the language model costs: FLOPs against counts by hand, seconds with the choosing in them."""

from __future__ import annotations

import time

import numpy as np
import pytest
from PIL import Image
from tiny_llava import write_tiny_llava

from headwise.methods import METHODS
from headwise.methods.contract import Reduced
from headwise.models.checkpoint import Checkpoint, Vlm, find_checkpoint
from headwise.records import Sample
from headwise.run.answering import Answerer
from headwise.run.choosing import CLIP_WIDTH, WORDS, before_flops
from headwise.run.costs import count_costs
from headwise.study.cells import Cell

V, C, D, T = 36, 16, 32, 9
N, E, M = V + 1, CLIP_WIDTH, 1
# Each of T steps brings one row of a Cholesky factor up to date.
GREEDY = sum(2 * step * V for step in range(T))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Checkpoint:
    return find_checkpoint(str(write_tiny_llava(tmp_path_factory.mktemp("llava"), side=6)))


@pytest.mark.parametrize(
    ("name", "flops"),
    [
        ("fastervlm", 0),
        ("hiprune", 0),
        ("downsample", 0),
        ("random_patches", 0),
        ("divprune", 2 * V * V * D),
        ("pool", 2 * T * N * C),
        ("scope", 2 * V * V * C),
        ("vispruner", 2 * V * V * C),
        ("mmtok", 2 * V * V * C + 2 * WORDS * V * D),
        ("cdpruner_llm", 2 * V * V * D + 2 * V * D * WORDS + GREEDY),
        ("cdpruner", 2 * V * V * D + 2 * V * C * E + 2 * V * E * M + GREEDY),
        ("trim", 2 * V * C * E + 2 * V * E + 2 * T * N * C),
        ("prumerge", 2 * N * C + 2 * (T - 1) * V * C + 2 * T * V * C),
    ],
)
def test_the_flops_of_a_choice_by_hand(checkpoint, name, flops):
    assert before_flops(checkpoint, Cell(strategy=name, tokens=T)) == flops


def test_they_are_in_the_costs_of_a_cell_and_no_other_cell_has_any(checkpoint):
    plain, choosing = (count_costs(checkpoint, Cell(strategy=name, tokens=T)) for name in ("fastervlm", "divprune"))
    assert choosing["flops"] - plain["flops"] == 2 * V * V * D
    assert choosing["kv_bytes"] == plain["kv_bytes"]
    for name in ("fastv", "sum", "vanilla", "random_tokens"):
        assert before_flops(checkpoint, Cell(strategy=name, tokens=T, budget="kept")) == 0


def test_measured_seconds_hold_the_choosing(checkpoint, monkeypatch):
    plain, slow = Cell(strategy="fastervlm", tokens=T), Cell(strategy="divprune", tokens=T)
    choose = type(METHODS["divprune"]).choose

    def late(self, vision, tokens, options) -> Reduced:
        time.sleep(0.5)
        return choose(self, vision, tokens, options)

    monkeypatch.setattr(type(METHODS["divprune"]), "choose", late)
    answerer = Answerer(Vlm(checkpoint), 3)
    pixels = np.random.default_rng(0).integers(0, 255, (40, 52, 3), dtype=np.uint8)
    prepared = answerer.reducer.prepare(Image.fromarray(pixels), [plain, slow])
    sample = Sample(benchmark="gqa", question_id="1", image="a", prompt="Is there a red cat ?")
    found = answerer._costs("gqa", [plain, slow], prepared, sample)
    seconds = {cost["method"].partition("/")[0]: cost for cost in found}
    assert seconds["divprune"]["prefill"] >= 0.5
    assert seconds["divprune"]["prefill"] - seconds["fastervlm"]["prefill"] > 0.25
    assert seconds["divprune"]["token"] < 0.25
    assert {(cost["layer"], cost["kept"]) for cost in found} == {(0, T)}
