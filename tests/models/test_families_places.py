"""Where each family's visual tokens lie on the picture: a bright spot is in the tokens that are said to hold it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_families import FAMILIES, write_tiny

from headwise.models.checkpoint import Vlm, find_checkpoint
from headwise.study.grids import Grid, boxes, covered, tiles

SIZES = [(40, 60), (90, 33), (30, 120), (64, 64), (1, 1)]


@pytest.fixture(scope="module", params=FAMILIES)
def vlm(request, tmp_path_factory):
    return Vlm(find_checkpoint(str(write_tiny(request.param, tmp_path_factory.mktemp("model")))))


def grids(vlm, image):
    pixels = vlm.prepare(image)
    return pixels, vlm.family.grids(vlm.model.config, vlm.processor, pixels, vlm.checkpoint.images, image.size)


@pytest.mark.parametrize("size", SIZES)
def test_there_is_a_box_for_every_token(vlm, size):
    image = Image.new("RGB", size, (90, 90, 90))
    pixels, found = grids(vlm, image)
    picture = vlm.encode_images([pixels])[0]
    places_V4 = vlm.family.places(vlm.model.config, vlm.processor, pixels, vlm.checkpoint.images, size)
    assert places_V4.shape == (picture.visual, 4)
    known = places_V4[~np.isnan(places_V4[:, 0])]
    newlines = sum(grid.rows * grid.newline for grid in found)
    assert len(known) == picture.visual - newlines
    assert (known[:, :2] < known[:, 2:]).all()
    assert known[:, 0].max() < size[0]
    assert known[:, 1].max() < size[1]
    assert known[:, 2].min() > 0
    assert known[:, 3].min() > 0


@pytest.mark.parametrize("size", [(64, 96), (150, 60)])
@pytest.mark.parametrize("spot", [(0.12, 0.12), (0.88, 0.2), (0.4, 0.9)])
def test_a_spot_changes_the_features_of_the_tokens_over_it(vlm, size, spot):
    """Features before the tower mixes them are its patches: those whose pixels changed lie over the spot."""
    plain = np.full((size[1], size[0], 3), 90, dtype=np.uint8)
    marked = plain.copy()
    x, y = int(spot[0] * size[0]), int(spot[1] * size[1])
    marked[max(0, y - 2) : y + 2, max(0, x - 2) : x + 2] = 255
    (first, found), (second, _) = (grids(vlm, Image.fromarray(each)) for each in (plain, marked))
    changed_V = changed(vlm, first, second)
    boxes_V4 = boxes(found)
    assert len(changed_V) == len(boxes_V4)
    low, high = (np.array([x + off, y + off]) / size for off in (-2, 2))
    inside = (boxes_V4[:, :2] < high).all(1) & (boxes_V4[:, 2:] > low).all(1)
    assert 1 <= inside.sum() < 0.3 * len(inside)
    changed_V = np.where(np.isnan(boxes_V4[:, 0]), 0, changed_V)
    for grid, part, lies in parts(found, changed_V, inside):
        if lies.any():
            assert lies[int(part.argmax())], (grid, part.argmax(), lies.nonzero())


def parts(found, changed_V, inside):
    start = 0
    for grid in found:
        yield grid, changed_V[start : start + grid.tokens], inside[start : start + grid.tokens]
        start += grid.tokens


def changed(vlm, first, second):
    """How much each token's pixels changed, in the order of the tokens."""
    name, config = vlm.family.name, vlm.model.config
    difference = (second["pixel_values"] - first["pixel_values"]).abs()
    if name.startswith("qwen"):
        return difference.sum(1).view(-1, 4).sum(1).numpy()
    tiles_G3hw = difference.flatten(0, -4)
    vision = config.vision_config
    patch = vision.patch_size[0] if isinstance(vision.patch_size, list | tuple) else vision.patch_size
    cell = {"internvl": 2 * patch, "smolvlm": patch * getattr(config, "scale_factor", 1)}.get(name, patch)
    per_tile = torch.nn.functional.avg_pool2d(tiles_G3hw.sum(1), cell).flatten(1)
    if not name.startswith("llava"):
        return per_tile.flatten().numpy()
    newline = torch.zeros(1)
    next_ = {"vision_feature_select_strategy": "default"}
    packing = {"vision_aspect_ratio": config.vision_aspect_ratio} if name == "llava_onevision" else next_
    packed, _ = vlm.model.model.pack_image_features(
        [per_tile[..., None]], first["image_sizes"], image_newline=newline, **packing
    )
    return packed[0][:, 0].numpy()


def test_boxes_of_tiles_and_newlines():
    found = boxes([*tiles(1, 2, 1), Grid(1, 2, newline=1)])
    assert found[:4].tolist() == [[0, 0, 0.5, 1], [0.5, 0, 1, 1], [0, 0, 0.5, 1], [0.5, 0, 1, 1]]
    assert np.isnan(found[4]).all()


def test_kept_tokens_cover_the_picture_in_its_padded_square():
    boxes_V4 = boxes([Grid(1, 2, newline=1)])
    wide = covered(boxes_V4, np.array([True, False, True]), (8, 4), 4)
    assert wide.astype(int).tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    tall = covered(boxes_V4, np.array([False, True, False]), (4, 8), 4)
    assert tall.astype(int).tolist() == [[0, 0, 1, 0]] * 4
