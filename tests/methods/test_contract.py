"""What every method must do, whatever its formula: names, options, budgets, signals, precision."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from methods.vision_inputs import random_vision

from headwise.errors import ConfigError
from headwise.methods import METHODS, BeforeMethod, Vision, reduce

BEFORE = [name for name, method in METHODS.items() if isinstance(method, BeforeMethod)]
OF_TOWER = [name for name in BEFORE if name != "downsample"]
REQUIRED = {
    "visionzip",
    "fastervlm",
    "vispruner",
    "divprune",
    "cdpruner",
    "cdpruner_llm",
    "holov",
    "prumerge",
    "prumerge_plus",
    "trim",
    "scope",
    "mmtok",
    "hiprune",
    "pool",
    "downsample",
    "random_patches",
}
CONTROLS = ("pool", "downsample", "random_patches")


def changed(vision: Vision, **signals: torch.Tensor | None) -> Vision:
    return Vision(**{**vars(vision), **signals})


def test_the_methods_of_the_package_are_found():
    assert set(BEFORE) >= REQUIRED


def test_names_are_known_without_torch():
    program = "import sys; from headwise.methods import METHODS; print(len(list(METHODS)), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    count, torch_loaded = done.stdout.split()
    assert int(count) >= len(REQUIRED)
    assert torch_loaded == "False"


@pytest.mark.parametrize("name", BEFORE)
def test_a_method_says_what_it_is(name):
    method = METHODS[name]
    assert method.title
    assert method.source
    assert method.version >= 1
    assert method.positions == "compacted"
    assert method.role == ("control" if name in CONTROLS else "method")
    assert method.question_dependent == (name in ("cdpruner", "cdpruner_llm", "trim", "mmtok"))
    assert bool(method.text_encoder) == method.question_dependent


@pytest.mark.parametrize("tokens", [2, 9, 16, 30])
@pytest.mark.parametrize("name", OF_TOWER)
def test_exactly_t_rows(name, tokens):
    vision = random_vision()
    reduced = reduce(name, vision, tokens)
    places = [place for place in reduced.kept.tolist() if place >= 0]
    assert len(reduced.kept) == METHODS[name].rows(tokens, 36, METHODS[name].options()) == tokens
    assert reduced.kept.dtype == torch.int64
    assert len(set(places)) == len(places)
    assert max(places, default=0) < 36
    assert not reduced.degenerate
    if reduced.tokens_TC is not None:
        torch.testing.assert_close(reduced.weights_TN @ vision.hidden_NC, reduced.tokens_TC)


@pytest.mark.parametrize("name", [name for name in OF_TOWER if name not in ("visionzip", "pool", "holov")])
def test_a_budget_of_all_patches_keeps_each_but_for_the_extra_row(name):
    kept = reduce(name, random_vision(25), 25).kept.tolist()
    extra = name in ("trim", "prumerge", "prumerge_plus")
    assert len({place for place in kept if place >= 0}) == 25 - extra


@pytest.mark.parametrize("name", OF_TOWER)
def test_float16_is_ranked_in_float32(name):
    half = random_vision(dtype=torch.float16)
    single = Vision(**{signal: value.float() for signal, value in vars(half).items()})
    assert torch.equal(reduce(name, half, 16).kept, reduce(name, single, 16).kept)


@pytest.mark.parametrize("name", OF_TOWER)
def test_a_missing_signal_is_named(name):
    for signal in METHODS[name].needs:
        with pytest.raises(ConfigError, match=f"^{name}: .*{signal}, which is missing"):
            reduce(name, changed(random_vision(), **{signal: None}), 16)


@pytest.mark.parametrize("name", OF_TOWER)
def test_only_the_needed_signals_are_read(name):
    vision = random_vision()
    needed = Vision(**{signal: getattr(vision, signal) for signal in METHODS[name].needs})
    assert torch.equal(reduce(name, needed, 16).kept, reduce(name, vision, 16).kept)


@pytest.mark.parametrize("tokens", [0, -3, 50, True, 2.5, None])
@pytest.mark.parametrize("name", BEFORE)
def test_a_budget_that_cannot_be_met_is_refused(name, tokens):
    with pytest.raises(ConfigError, match="tokens: "):
        reduce(name, random_vision(36), tokens)


@pytest.mark.parametrize(
    ("name", "tokens", "options", "words"),
    [
        ("visionzip", 1, {}, "feasible budgets are 2 to 36"),
        ("visionzip", 9, {"contextual": 8}, "feasible budgets are 10 to 36"),
        ("prumerge", 1, {}, "feasible budgets are 2 to 36"),
        ("trim", 1, {}, "feasible budgets are 2 to 36"),
        ("pool", 7, {}, r"the smallest feasible budget is 1 \(1, 2, 4, 6, … up to 36\)"),
        ("pool", 7, {"grid": (2, 3)}, "feasible budgets are 6 to 6"),
        ("pool", 7, {"grid": (1, 7)}, "with these options no budget is"),
        ("hiprune", 3, {"alpha": 1}, "the smallest feasible budget is 1 "),
    ],
)
def test_the_smallest_feasible_budget_is_named(name, tokens, options, words):
    with pytest.raises(ConfigError, match=words):
        reduce(name, random_vision(), tokens, **options)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("fastervlm", {"alpha": 1}, "fastervlm: unknown option 'alpha'; it has none"),
        ("trim", {"theta": 1}, "trim: unknown option 'theta'; allowed are clip, adaptive"),
        ("vispruner", {"important_ratio": 1.5}, "vispruner: important_ratio: 1.5 is not a number between 0 and 1"),
        ("vispruner", {"important_ratio": float("nan")}, "nan is not a number between 0 and 1"),
        ("visionzip", {"contextual": 2.0}, "contextual: 2.0 is not a whole number"),
        ("pool", {"grid": "4x4"}, "grid: '4x4' is not a height and a width"),
        ("hiprune", {"alpha": None}, "alpha: None is not a number"),
        ("prumerge", {"adaptive": "no"}, "adaptive: 'no' is not true or false"),
        ("random_patches", {"draw": -1}, "draw: -1 is not a whole number"),
        ("cdpruner", {"clip": ""}, "clip: '' is not a folder or hub name"),
    ],
)
def test_wrong_options_are_refused(name, options, words):
    with pytest.raises(ConfigError, match=words):
        reduce(name, random_vision(), 4, **options)


def test_numbers_out_of_an_array_are_numbers():
    vision = random_vision()
    for name, tokens, options in (
        ("fastervlm", np.int64(9), {}),
        ("visionzip", np.int32(9), {"contextual": np.int64(3)}),
        ("pool", 12, {"grid": tuple(np.array([3, 4]))}),
        ("vispruner", 8, {"important_ratio": np.float32(0.25)}),
        ("prumerge", 8, {"adaptive": np.True_}),
    ):
        given = {option: value.item() if np.ndim(value) == 0 else (3, 4) for option, value in options.items()}
        assert torch.equal(
            reduce(name, vision, tokens, **options).kept, reduce(name, vision, int(tokens), **given).kept
        )
    with pytest.raises(ConfigError, match="tokens: True is not a whole number"):
        reduce("fastervlm", vision, np.True_)


def test_an_unknown_method_lists_the_known():
    with pytest.raises(ConfigError, match="^method: 'visionzap' is not one of .*, visionzip, vispruner$"):
        reduce("visionzap", random_vision(), 4)


def test_signals_that_do_not_fit_each_other_are_refused():
    with pytest.raises(ConfigError, match="vispruner: hidden_NC has 35 along V where another signal has 36"):
        reduce("vispruner", changed(random_vision(), hidden_NC=torch.ones(36, 16)), 4)
    with pytest.raises(ConfigError, match=r"fastervlm: attention_HV has the shape \[36\]; its axes are H, V"):
        reduce("fastervlm", Vision(attention_HV=torch.ones(36)), 4)


@pytest.mark.parametrize("name", OF_TOWER)
def test_a_signal_that_is_not_finite_is_reported(name):
    for signal in METHODS[name].needs:
        broken = getattr(random_vision(), signal).clone()
        broken.view(-1)[3] = float("nan")
        reduced = reduce(name, changed(random_vision(), **{signal: broken}), 16)
        assert reduced.degenerate
        assert len(reduced.kept) == 16
