"""Decision functions of the methods inside the language model against the original code's."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from headwise.methods import dart, fitprune, sparsevlm, sparsevlm_plus
from headwise.methods._query_rows import query_rows
from headwise.methods.dynamic_heads import weighted_heads
from headwise.methods.heads.ranking import Ranker
from headwise.methods.stages import Stage, inside_method, top
from headwise.study.cells import Cell
from headwise.study.names import QUERIES

UNITS = np.load(Path(__file__).parents[1] / "golden/methods_inside/units.npz")
START, VISUAL, TEXT, HEADS, SIZE, _ = UNITS["sizes"].tolist()
AFTER = START + VISUAL


class Given(SimpleNamespace):
    """A view of golden signals."""

    def once(self, key, compute):
        return compute()

    once_per_question = once

    def final_norm(self, hidden):
        return hidden


def view(layer: int = 0) -> Given:
    attention, hidden = torch.tensor(UNITS["attention"][layer]), torch.tensor(UNITS["hidden"])
    keys = torch.tensor(UNITS["dart_keys"])
    return Given(
        layer=layer,
        sample_id="",
        system=START,
        visual=VISUAL,
        text=TEXT,
        last_HV=attention[:, -1, START:AFTER],
        text_HQV=attention[:, VISUAL:, START:AFTER],
        visual_HVV=attention[:, :VISUAL, START:AFTER],
        most_QV=attention[:, VISUAL:, START:AFTER].amax(0),
        most_VV=attention[:, :VISUAL, START:AFTER].amax(0),
        hidden_VD=hidden[START:AFTER],
        hidden_QD=hidden[AFTER:],
        embeds_VD=hidden[START:AFTER],
        embeds_QD=hidden[AFTER:],
        keys_HVd=keys[:, START:AFTER],
        keys_HQd=keys[:, AFTER:],
        positions_V=torch.arange(START, AFTER),
        positions_Q=torch.arange(AFTER, AFTER + TEXT),
        rope_frequencies=10000.0 ** -(torch.arange(0, SIZE, 2) / SIZE),
    )


def names(start: str) -> list[str]:
    found = [name for name in UNITS.files if name.startswith(start)]
    assert found
    return found


def cell(name: str) -> Cell:
    return Cell(strategy=name, tokens=1, score_dtype="float32")


@pytest.mark.parametrize("name", names("sparsevlm_kept/"))
def test_sparsevlm_keeps_recycles_and_merges(name):
    _, layer, keep = name.split("/")
    method, seen = inside_method("sparsevlm"), view(int(layer))
    merged = UNITS[f"sparsevlm_merged/{layer}/{keep}"]
    assert method.merged(VISUAL - int(keep)) == len(merged)
    choice = method.select(seen, Stage(3, int(keep), len(merged)), cell("sparsevlm"))
    np.testing.assert_array_equal(choice.kept_R, UNITS[name])
    np.testing.assert_allclose(choice.merge_CR @ seen.hidden_VD, merged, atol=1e-5)
    recycled = choice.merge_CR.sum(0).nonzero()[:, 0].tolist()
    assert recycled == sorted(UNITS[f"sparsevlm_recycled/{layer}/{keep}"].tolist())


def test_text_raters():
    seen = view()
    np.testing.assert_array_equal(sparsevlm.text_raters(seen.embeds_VD, seen.embeds_QD), UNITS["sparsevlm_raters"])


@pytest.mark.parametrize("name", names("merge_in/"))
def test_merging_ties_included(name):
    rows, expected = torch.tensor(UNITS[name]), UNITS[name.replace("_in", "_out")]
    np.testing.assert_allclose(sparsevlm.merge_weights(rows, len(expected)) @ rows, expected, atol=1e-5)


@pytest.mark.parametrize("name", names("sparsevlm_plus_kept/"))
def test_sparsevlm_plus(name):
    _, layer, keep = name.split("/")
    choice = inside_method("sparsevlm_plus").select(view(int(layer)), Stage(3, int(keep)), cell("sparsevlm_plus"))
    np.testing.assert_array_equal(choice.kept_R, UNITS[name])


@pytest.mark.parametrize("layer", [0, 1])
def test_sparsevlm_plus_heads_and_score(layer):
    seen, raters = view(layer), torch.tensor(UNITS["sparsevlm_raters"].astype(int))
    weight = sparsevlm_plus.rotary_weights(seen.positions_Q[raters], seen.positions_V, seen.rope_frequencies)
    heads, score_V = sparsevlm_plus.rated(seen.text_HQV[:, raters], weight)
    np.testing.assert_array_equal(heads, UNITS[f"sparsevlm_plus_heads/{layer}"])
    np.testing.assert_allclose(score_V, UNITS[f"sparsevlm_plus_score/{layer}"], rtol=1e-4)


@pytest.mark.parametrize("name", names("dart/"))
def test_dart_takes_pivots_in_the_order_of_a_set(name):
    _, budget, pivots = name.split("/")
    image, text = map(int, pivots.split("_"))
    seen = view()
    unit = torch.nn.functional.normalize(seen.hidden_VD, dim=-1)
    kept = dart.select(seen, unit, int(budget) // (image + text), image, text)
    np.testing.assert_array_equal(kept, np.sort(UNITS[name]))


@pytest.mark.parametrize("name", names("fitprune/"))
def test_fitprune_deletes_the_least(name):
    _, layer, deleted = name.split("/")
    seen = view(int(layer))
    score_V = fitprune.score(seen.most_QV, seen.most_VV)
    np.testing.assert_allclose(score_V, UNITS[f"fitprune_score/{layer}"], rtol=1e-4)
    np.testing.assert_array_equal(top(score_V, VISUAL - int(deleted)), UNITS[name])


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("layer", [0, 1])
def test_query_rows_of_ablation_b(query, layer):
    ranker = Ranker(query_rows(view(layer), query)[None], ["q"])
    for strategy in ("variance", "sum", "entropy"):
        for heads in (16, 6):
            expected = UNITS[f"query/{query}/{strategy}/{heads}/{layer}"]
            chosen = Cell(strategy=strategy, tokens=20, heads=heads)
            np.testing.assert_array_equal(ranker.choices(chosen, 20)[0].kept_R, expected, err_msg=f"{strategy} {heads}")


@pytest.mark.parametrize("number", range(10))
def test_dynamic_heads(number):
    heads, score_V = weighted_heads(torch.tensor(UNITS["dynamic_in"][number]))
    assert sorted(heads.tolist()) == sorted(UNITS[f"dynamic_heads/{number}"].tolist())
    np.testing.assert_allclose(score_V, UNITS[f"dynamic_score/{number}"], rtol=1e-4)
    np.testing.assert_array_equal(top(score_V, 20), UNITS[f"dynamic/20/{number}"])
