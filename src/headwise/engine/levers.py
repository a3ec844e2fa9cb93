"""The ways the engine saves work. Each leaves greedy answers what they were; bench/grid.py measures each alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Optimizations:
    """Switches, all on by default.

    `shared_prefix`: one pass over an image and the layers below the first stage for all its questions and cells.
    `shared_system`: keys and values of the prompt before the image computed once per run (a short one is run with
    every image and branch all the same: `prefix.SHORT_PROMPT_MAX`).
    `merge_equal`: cells that keep the same tokens of the same question share what follows, up to the whole branch.
    `batch`: branches that keep equally many tokens run as one stack.
    `draft`: the first finished answer of a question is checked inside the other branches' prefill.
    `last_layer_rows`: the last layer's queries and MLP only for the positions that are read.
    """

    shared_prefix: bool = True
    shared_system: bool = True
    merge_equal: bool = True
    batch: bool = True
    draft: bool = True
    last_layer_rows: bool = True
