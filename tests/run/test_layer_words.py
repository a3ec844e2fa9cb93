"""What each layer sees, in words, where images differ in their number of visual tokens."""

import pytest

from headwise.run.layers import layer_lines
from headwise.study.cells import Cell, Geometry

RAGGED = Geometry(layers=6, heads=8, visual=None)


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (
            Cell(strategy="sparsity", tokens=0.25, heads=0.5, budget="kept"),
            "100 % in layers 1-2, 25 % in layers 3-6 (mean 50 % of an image's tokens): sparsity",
        ),
        (Cell(strategy="vanilla", tokens=1.0), "100 % in layers 1-6 (mean 100 % of an image's tokens): vanilla"),
        (
            Cell(strategy="sparsity", tokens=12, heads=0.5, layer=3, budget="kept"),
            "all in layers 1-3, at most 12 above: sparsity",
        ),
        (
            Cell(strategy="fastervlm", tokens=0.5, budget="kept"),
            "50 % in layers 1-6 (mean 50 % of an image's tokens): fastervlm",
        ),
        (Cell(strategy="fastervlm", tokens=12, budget="kept"), "at most 12 in all layers: fastervlm"),
    ],
)
def test_shares_of_images_that_differ_in_size(cell, words):
    assert layer_lines([cell], RAGGED) == [(f"tokens {cell.tokens}", words)]
