import pytest

from headwise.errors import ConfigError
from headwise.study.budget import head_count, kept_tokens, mean_tokens

PUBLISHED = {
    (32, 2): {192: 166, 128: 98, 64: 30},
    (40, 2): {192: 172, 128: 104, 64: 37},
}


@pytest.mark.parametrize(("layers", "layer"), PUBLISHED)
def test_published_conversions(layers, layer):
    table = PUBLISHED[layers, layer]
    assert {t: kept_tokens(t, layers=layers, visual=576, layer=layer) for t in table} == table


def test_kept_budget_is_the_number_kept():
    assert kept_tokens(64, layers=8, visual=576, budget="kept") == 64


def test_average_is_inverted_by_mean_tokens():
    kept = kept_tokens(192, layers=32, visual=576)
    assert mean_tokens(kept, layers=32, visual=576, layer=2) == pytest.approx(192, abs=0.5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"tokens": 64, "layers": 8}, "feasible budgets are 145 to 576"),
        ({"tokens": 577, "layers": 32}, "577"),
        ({"tokens": 0, "layers": 32, "budget": "kept"}, "feasible budgets are 1 to 576"),
        ({"tokens": 64, "layers": 32, "budget": "mean"}, "'mean' is not one of average, kept"),
        ({"tokens": 64, "layers": 32, "layer": 32}, "32 is not between 1 and 31"),
        ({"tokens": 64, "layers": 32, "layer": 0}, "0 is not between 1 and 31"),
    ],
)
def test_infeasible_budgets_name_what_is_allowed(arguments, words):
    tokens = arguments.pop("tokens")
    with pytest.raises(ConfigError, match=words):
        kept_tokens(tokens, visual=576, **arguments)


def test_the_smallest_feasible_budget_is_feasible_and_the_next_is_not():
    assert kept_tokens(145, layers=8, visual=576) >= 1
    with pytest.raises(ConfigError):
        kept_tokens(144, layers=8, visual=576)


@pytest.mark.parametrize(
    ("share", "visual", "budget", "kept"),
    [
        (0.25, 391, "kept", 98),  # 97.75
        (0.29, 50, "kept", 15),  # 14.5, which a binary 0.29 would round down
        (0.5, 5, "kept", 3),  # half up, where Python's round gives 2
        (0.001, 100, "kept", 1),
        (0.222, 576, "average", 98),  # (32·0.222 − 2) / 30 · 576 = 97.997
        (0.222, 2340, "average", 398),
    ],
)
def test_a_share_is_rounded_half_up_of_each_images_tokens(share, visual, budget, kept):
    assert kept_tokens(share, layers=32, visual=visual, budget=budget) == kept


def test_a_share_that_leaves_nothing_names_the_feasible_ones():
    with pytest.raises(ConfigError, match="feasible shares are those above 0.0625"):
        kept_tokens(0.05, layers=32, visual=576)


def test_a_share_of_heads():
    assert [head_count(heads, 28) for heads in (0.75, 0.5, 0.25, 0.01, 7)] == [21, 14, 7, 1, 7]
