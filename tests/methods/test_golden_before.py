"""Methods before the language model against what their original code chose: every key of the golden files."""

import numpy as np
import pytest
import torch
from methods.vision_inputs import golden, golden_vision

from headwise.methods import METHODS, Vision, reduce
from headwise.methods._ranking import unit
from headwise.methods.divprune import farthest
from headwise.methods.scope import ScopeOptions, ranked

DECISIONS, PRUMERGE, HIPRUNE = golden("decisions"), golden("prumerge"), golden("hiprune")
BUDGETED = ("fastervlm", "cdpruner", "mmtok", "holov", "divprune", "scope")


def cases(arrays: dict[str, np.ndarray], *methods: str) -> list[str]:
    """`<image>/<method>/<parameters>` of the golden results of these methods."""
    prefixes = [key.rpartition("/")[0] for key in arrays if key.split("/")[1] in methods]
    return sorted(set(prefixes))


def parts(case: str, arrays: dict[str, np.ndarray]) -> tuple[Vision, str, list[str]]:
    image, method, *parameters = case.split("/")
    return golden_vision(arrays, image), method, parameters


def same(kept: torch.Tensor, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(kept.numpy(), expected)


def close(tokens_TC: torch.Tensor | None, expected: np.ndarray) -> None:
    assert tokens_TC is not None
    np.testing.assert_allclose(tokens_TC.numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", cases(DECISIONS, *BUDGETED))
def test_kept_patches(case, dtype):
    vision, method, (tokens,) = parts(case, DECISIONS)
    vision = Vision(**{name: signal.to(dtype) for name, signal in vars(vision).items() if signal is not None})
    key = f"{case}/{'sequence' if method == 'holov' else 'kept'}"
    same(reduce(method, vision, int(tokens)).kept, DECISIONS[key])


@pytest.mark.parametrize("case", cases(DECISIONS, "divprune", "scope"))
def test_order_in_which_patches_are_chosen(case):
    vision, method, (tokens,) = parts(case, DECISIONS)
    unit_VD = unit(vision.projected_VD)
    scope = method == "scope"
    chosen = ranked(vision, int(tokens), ScopeOptions()) if scope else farthest(1 - unit_VD @ unit_VD.T, int(tokens))
    assert chosen == DECISIONS[f"{case}/rank"].tolist()


@pytest.mark.parametrize("case", cases(DECISIONS, "visionzip"))
def test_visionzip(case):
    vision, _, (tokens,) = parts(case, DECISIONS)
    dominant, contextual = DECISIONS[f"{case}/dominant_contextual"].tolist()
    reduced = reduce("visionzip", vision, int(tokens), contextual=contextual)
    same(reduced.kept[:dominant] + 1, DECISIONS[f"{case}/kept"])
    assert reduced.kept[dominant:].tolist() == [-1] * contextual
    close(reduced.tokens_TC, DECISIONS[f"{case}/tokens"])


def test_the_metric_of_visionzip_is_the_mean_of_the_keys():
    for image in "012":
        keys = golden_vision(DECISIONS, image).keys_HNd
        np.testing.assert_allclose(keys.mean(0), DECISIONS[f"{image}/in/metric_Nd"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", cases(DECISIONS, "vispruner"))
def test_vispruner(case):
    vision, _, (tokens, ratio) = parts(case, DECISIONS)
    same(reduce("vispruner", vision, int(tokens), important_ratio=float(ratio)).kept, DECISIONS[f"{case}/kept"])


@pytest.mark.parametrize("case", cases(DECISIONS, "trim"))
def test_trim(case):
    vision, _, (share,) = parts(case, DECISIONS)
    adaptive = share == "-1"
    tokens = 1 if adaptive else int(144 * float(share)) + 1
    reduced = reduce("trim", vision, tokens, adaptive=adaptive)
    same(reduced.kept[:-1], DECISIONS[f"{case}/kept"])
    assert reduced.kept[-1] == -1
    close(reduced.tokens_TC, DECISIONS[f"{case}/tokens"])


@pytest.mark.parametrize("case", cases(DECISIONS, "pool"))
def test_pool(case):
    vision, _, (sides,) = parts(case, DECISIONS)
    height, width = (int(side) for side in sides.split("x"))
    reduced = reduce("pool", vision, height * width, grid=(height, width))
    assert reduced.kept.tolist() == [-1] * (height * width)
    close(reduced.tokens_TC, DECISIONS[f"{case}/tokens"])


@pytest.mark.parametrize("case", ["0/prumerge", "1/prumerge", "0/prumerge_plus", "1/prumerge_plus"])
def test_adaptive_prumerge(case):
    vision, method, _ = parts(case, PRUMERGE)
    close(reduce(method, vision, 1, adaptive=True).tokens_TC, PRUMERGE[f"{case}/tokens"])


@pytest.mark.parametrize("case", [case for case in cases(PRUMERGE, "prumerge") if case.count("/") == 2])
def test_prumerge_of_fixed_size(case):
    vision, method, (kept,) = parts(case, PRUMERGE)
    close(reduce(method, vision, int(kept) + 1).tokens_TC, PRUMERGE[f"{case}/tokens"])


@pytest.mark.parametrize("case", cases(PRUMERGE, "prumerge_plus_effivlm"))
def test_prumerge_plus_of_fixed_size(case):
    vision, _, (kept,) = parts(case, PRUMERGE)
    reduced = reduce("prumerge_plus", vision, int(kept) + 1)
    same(reduced.kept[:-1], PRUMERGE[f"{case}/order"])
    assert reduced.kept[-1] == -1


@pytest.mark.parametrize("case", cases(HIPRUNE, "hiprune"))
def test_hiprune(case):
    vision, _, (tokens, alpha) = parts(case, HIPRUNE)
    same(reduce("hiprune", vision, int(tokens), alpha=float(alpha)).kept, HIPRUNE[f"{case}/kept"])


def test_every_golden_method_is_tested_above():
    tested = {*BUDGETED, "visionzip", "vispruner", "trim", "pool", "prumerge", "prumerge_plus", "hiprune"}
    stored = {key.split("/")[1] for arrays in (DECISIONS, PRUMERGE, HIPRUNE) for key in arrays} - {"in"}
    assert stored == tested | {"prumerge_plus_effivlm"}
    assert tested <= set(METHODS)
