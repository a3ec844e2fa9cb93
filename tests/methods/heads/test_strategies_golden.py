"""Head strategies against the reference choices, and their definitions on maps small enough to do by hand."""

import numpy as np
import pytest
import torch

from headwise.errors import ConfigError
from headwise.methods.heads import STRATEGIES, counts_heads, degenerate, score_heads, select_heads, select_tokens
from headwise.methods.heads.strategy import Strategy
from headwise.study import names


@pytest.fixture(scope="module")
def golden(golden_files):
    return np.load(golden_files / "strategies.npz")


@pytest.mark.parametrize("heads", [24, 16, 8])
@pytest.mark.parametrize("strategy", names.STRATEGIES)
def test_float64_chooses_the_reference_heads(golden, strategy, heads):
    maps = torch.tensor(golden["attention"])
    chosen = select_heads(strategy, maps, heads)
    np.testing.assert_array_equal(chosen.numpy(), golden[f"float64/{strategy}/{heads}"])
    alone = torch.stack([select_heads(strategy, attention_HV, heads) for attention_HV in maps])
    assert torch.equal(alone, chosen)


@pytest.mark.parametrize("strategy", ["sum", "max_attention", "attention_range", "top_k_sum", "variance"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_lower_precision_agrees_where_it_can(golden, strategy, dtype):
    chosen = select_heads(strategy, torch.tensor(golden["attention"]), 16, dtype)
    reference = golden[f"float64/{strategy}/16"]
    agreement = np.mean([len(set(a) & set(b)) / 16 for a, b in zip(chosen.tolist(), reference.tolist(), strict=True)])
    assert agreement >= 0.98


def test_float16_multi_objective_is_nan_and_said_to_be_degenerate(golden):
    maps = torch.tensor(golden["attention"])
    assert degenerate(score_heads("multi_objective", maps, 8, "float16")).all()
    assert not degenerate(score_heads("multi_objective", maps, 8)).any()


@pytest.mark.parametrize("strategy", names.STRATEGIES)
def test_ties_go_to_the_lower_head(strategy):
    equal_HV = torch.full((12, 40), 0.02)
    assert select_heads(strategy, equal_HV, 5).tolist() == [0, 1, 2, 3, 4]


def test_peaked_head_wins_by_concentration_and_flat_head_by_sum():
    peaked, flat = torch.tensor([0.9] + [0.001] * 9), torch.full((10,), 0.1)
    maps_HV = torch.stack([flat, peaked])
    for strategy in ("variance", "entropy", "max_attention", "attention_range", "sparsity", "gini_coefficient"):
        assert select_heads(strategy, maps_HV, 1).tolist() == [1], strategy
    assert select_heads("sum", maps_HV, 1).tolist() == [0]


def test_tokens_are_the_best_by_mean_attention_in_image_order():
    maps_HV = torch.tensor([[0.1, 0.5, 0.2, 0.0], [0.3, 0.1, 0.2, 0.0], [9.0, 9.0, 9.0, 99.0]])
    assert select_tokens(maps_HV, torch.tensor([0, 1]), 2).tolist() == [0, 1]
    assert select_tokens(maps_HV, torch.tensor([2]), 1).tolist() == [3]


@pytest.mark.parametrize(
    ("name", "heads", "dtype", "words"),
    [
        ("sparsty", 2, "float64", "'sparsty' is not one of sum, variance"),
        ("vanilla", 2, "float64", "'vanilla' is not one of sum, variance"),
        ("sum", 0, "float64", "0 is not between 1 and 4"),
        ("sum", 5, "float64", "5 is not between 1 and 4"),
        ("sum", 2, "int8", "'int8' is not one of float64, float32, float16"),
    ],
)
def test_bad_values_are_named_with_what_is_allowed(name, heads, dtype, words):
    with pytest.raises(ConfigError, match=words):
        select_heads(name, torch.rand(4, 9), heads, dtype)


@pytest.mark.parametrize("strategy", names.STRATEGIES)
def test_a_ranking_depends_on_the_number_of_heads_where_the_strategy_says_so(strategy):
    """The engine ranks once for every number of heads unless the strategy says `counts_heads`."""
    maps = torch.rand(6, 32, 60, generator=torch.Generator().manual_seed(3)) / 60
    few, many = score_heads(strategy, maps, 4), score_heads(strategy, maps, 16)
    assert torch.equal(few, many) != counts_heads(strategy)


def test_a_strategy_that_hides_that_it_counts_heads_is_refused(monkeypatch):
    hidden = Strategy(score=STRATEGIES["hierarchical"].score)
    monkeypatch.setitem(STRATEGIES, "hierarchical", hidden)
    with pytest.raises(TypeError, match="counts_heads=True"):
        score_heads("hierarchical", torch.rand(12, 40), 4)
