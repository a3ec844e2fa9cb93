"""What was measured while answering, from spool lines to one cell's figures."""

from __future__ import annotations

from headwise.run.cell_files import measured


def cost(kept, prefill, device="A", layer=2):
    seconds = {"prefill": prefill, "token": prefill / 10}
    return {"layer": layer, "kept": kept, **seconds, "peak": 100 * kept, "device": device}


def test_medians_are_of_the_cell_s_own_width():
    rows = [cost(64, 1.0), cost(64, 9.0), cost(64, 2.0), cost(128, 50.0), cost(64, 50.0, layer=3)]
    found = measured(rows, layer=2, kept=64)
    assert (found.prefill_seconds, found.token_seconds, found.peak_bytes, found.questions) == (2.0, 0.2, 6400, 3)


def test_two_machines_are_not_mixed():
    rows = [cost(64, 1.0, "slow"), cost(64, 3.0, "slow"), cost(64, 0.1, "fast")]
    found = measured(rows, layer=2, kept=64)
    assert (found.device, found.prefill_seconds, found.questions) == ("slow", 2.0, 2)


def test_answers_spooled_without_measuring_have_no_figures():
    assert measured([cost(128, 1.0)], layer=2, kept=64) is None
