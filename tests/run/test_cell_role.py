"""The role that a cell's run logs is its method's own."""

import pytest

from headwise.run.cell_runs import role


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        ("vanilla", "reference"),
        ("all_heads", "control"),
        ("random_tokens", "control"),
        ("pool", "control"),
        ("downsample", "control"),
        ("random_patches", "control"),
        ("sum", "method"),
        ("pdrop", "method"),
        ("a_plug_in_that_is_gone", "method"),
    ],
)
def test_a_cell_says_what_it_is_in_a_comparison(strategy, said):
    assert role(strategy) == said
