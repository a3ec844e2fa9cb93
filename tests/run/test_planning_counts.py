"""The plan's counts against numbers worked out by hand and against the flop counter."""

import pytest
import torch
from tiny_llava import write_tiny_llava
from torch.utils.flop_counter import FlopCounterMode

from headwise.models.checkpoint import Checkpoint, Vlm, find_checkpoint
from headwise.run.costs import layer_flops
from headwise.run.estimate import count_work
from headwise.study.cells import Cell, Geometry

SHAPE = {"layers": 4, "hidden": 10, "intermediate": 20, "heads": 2, "kv_heads": 2, "head_dim": 5, "vocabulary": 9}


def checkpoint(tmp_path):
    geometry = Geometry(layers=4, heads=2, visual=16)
    return Checkpoint(name="x", folder=tmp_path, geometry=geometry, shape=SHAPE, digest="")


def test_layer_flops_are_what_the_flop_counter_counts(tmp_path):
    found = find_checkpoint(str(write_tiny_llava(tmp_path)))
    model = Vlm(found).model.model.language_model
    hidden = torch.randn(1, 7, found.shape["hidden"])
    rope = model.rotary_emb(hidden, torch.arange(7)[None])
    model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.layers[0](hidden, position_embeddings=rope)
    assert counter.get_total_flops() == layer_flops(found.shape, 7)


def test_work_of_a_grid_by_hand(tmp_path):
    cells = [
        Cell(strategy="vanilla", tokens=16, heads=0),
        Cell(strategy="sum", tokens=4, heads=1, budget="kept"),
    ]
    work = count_work(checkpoint(tmp_path), cells, images=3, questions=6, lengths=(2, 5))
    prefix = 3 * 4 * layer_flops(SHAPE, 16, 2)
    asked = 6 * 2 * layer_flops(SHAPE, 5, 18)
    assert work.shared == pytest.approx(prefix + asked)
    assert work.branches == pytest.approx(6 * 2 * (layer_flops(SHAPE, 5, 18) + layer_flops(SHAPE, 9, 2)))
    assert work.original == pytest.approx(6 * 2 * (3 * layer_flops(SHAPE, 23) + layer_flops(SHAPE, 11)))


def test_without_an_unpruned_cell_the_image_stops_at_the_pruning_layer(tmp_path):
    cells = [Cell(strategy="sum", tokens=4, heads=1, budget="kept")]
    work = count_work(checkpoint(tmp_path), cells, images=1, questions=1, lengths=(2, 5))
    assert work.shared == pytest.approx(2 * layer_flops(SHAPE, 16, 2) + 2 * layer_flops(SHAPE, 5, 18))
