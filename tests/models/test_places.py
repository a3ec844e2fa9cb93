"""Where visual tokens lie in the picture: as many boxes as tokens, and what stands there is what the token sees."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_families import FAMILIES, write_tiny

from headwise.models.checkpoint import Vlm, find_checkpoint
from headwise.models.contract import ImageOptions
from headwise.study.grids import Grid, as_numbers, from_numbers, places

SIZES = [(40, 60), (33, 90), (120, 30), (20, 20), (1, 1), (7, 150), (150, 7)]
LIMITS = ImageOptions(min_pixels=256, max_pixels=4096)


@pytest.fixture(scope="module", params=FAMILIES)
def vlm(request, tmp_path_factory):
    checkpoint = find_checkpoint(str(write_tiny(request.param, tmp_path_factory.mktemp(request.param))))
    return Vlm(checkpoint.seen_as(LIMITS) if request.param.startswith("qwen") else checkpoint, "auto", "cpu")


def encoded(vlm, image):
    return vlm.encode_images([vlm.prepare(image)])[0]


@pytest.mark.parametrize("size", SIZES)
def test_every_token_has_a_box_or_is_a_newline(vlm, size):
    picture = encoded(vlm, Image.new("RGB", size, "red"))
    boxes_V4 = places(picture.grids)
    assert len(boxes_V4) == picture.visual
    placed = boxes_V4[~np.isnan(boxes_V4).any(1)]
    assert (placed[:, :2] < placed[:, 2:]).all()
    middles = (placed[:, :2] + placed[:, 2:]) / 2
    if min(size) > 7:  # there a patch of padding may be larger than the picture
        assert middles.min() > -0.05
        assert middles.max() < 1.05


@pytest.mark.parametrize("corner", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_a_changed_corner_changes_the_tokens_that_lie_there(vlm, corner):
    """By the tower's own patches: those whose pixels differ are those whose boxes meet what was changed."""
    plain = Image.new("RGB", (96, 64), (90, 90, 90))
    changed = plain.copy()
    changed.paste((250, 20, 20), (corner[0] * 84, corner[1] * 56, corner[0] * 84 + 12, corner[1] * 56 + 8))
    seen = [first_layer(vlm, each) for each in (plain, changed)]
    differs_V = (seen[0] - seen[1]).abs().amax(1) > 1e-4
    boxes_V4 = places(encoded(vlm, plain).grids)
    spot = np.array([corner[0] * 84 / 96, corner[1] * 56 / 64]) + np.array([6 / 96, 4 / 64])
    holds_V = (boxes_V4[:, :2] <= spot).all(1) & (spot <= boxes_V4[:, 2:]).all(1)
    assert holds_V.any()
    assert differs_V[torch.from_numpy(holds_V)].all()
    far_V = np.abs((boxes_V4[:, :2] + boxes_V4[:, 2:]) / 2 - spot).max(1) > 0.5
    assert not differs_V[torch.from_numpy(far_V)].any()


def first_layer(vlm, image):
    """Visual tokens where the tower attends to nothing: each is its own patch's, by the model's own code."""
    attentions = [module for name, module in vlm.model.named_modules() if is_attention(name, module)]
    handles = [module.register_forward_hook(silent) for module in attentions]
    try:
        return vlm.family.features(vlm.model, vlm.prepare(image)).tokens_VD
    finally:
        for handle in handles:
            handle.remove()


def is_attention(name, module):
    return (
        "language_model" not in name
        and "text_model" not in name
        and name.endswith((".self_attn", ".attn", ".attention"))
    )


def silent(_, __, out):
    return (torch.zeros_like(out[0]), *out[1:]) if isinstance(out, tuple) else torch.zeros_like(out)


def test_grids_are_kept_as_numbers():
    grids = (Grid(2, 3, newline=True), Grid(1, 0, newline=True), Grid(2, 2, 0.25, -0.1, 0.5, 1.1))
    assert from_numbers(as_numbers(grids)) == grids
    boxes_V4 = places(grids)
    assert np.isnan(boxes_V4[[3, 7, 8]]).all()
    np.testing.assert_allclose(boxes_V4[4], [0, 0.5, 1 / 3, 1])
    np.testing.assert_allclose(boxes_V4[9], [0.25, -0.1, 0.375, 0.5])


def test_a_grid_lies_in_the_padded_square():
    assert Grid(1, 1).in_square(200, 100) == Grid(1, 1, 0.0, 0.25, 1.0, 0.75)
