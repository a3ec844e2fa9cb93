"""Families by name, their prompts as token ids, limits of image size, and what is refused before weights are read."""

import json
import subprocess
import sys

import pytest
from PIL import Image
from tiny_families import write_tiny
from transformers.models.smolvlm.processing_smolvlm import _prompt_single_image, _prompt_split_image

from headwise.errors import ConfigError, ModelError
from headwise.models import FAMILIES
from headwise.models.checkpoint import Vlm, find_checkpoint
from headwise.models.contract import ImageOptions


def test_names_are_known_without_torch():
    code = "import sys; from headwise.models import FAMILIES; list(FAMILIES); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_prompt_has_one_image_and_one_question(name):
    family = FAMILIES[name]
    assert family.prompt.count("{image}") == family.prompt.count("{question}") == 1
    assert all((family.prompt_version, family.model_types, family.text_types))


def test_two_families_that_take_one_kind_of_checkpoint_are_refused(tmp_path, monkeypatch):
    class Mine(type(FAMILIES["qwen3_vl"])):
        name = "mine"

    monkeypatch.setitem(FAMILIES._found, "mine", Mine())
    with pytest.raises(ConfigError, match="model family: qwen3_vl and mine both take 'qwen3_vl' checkpoints"):
        find_checkpoint(str(write_tiny("qwen3_vl", tmp_path)))


def changed(folder, **text):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["text_config"] |= text
    path.write_text(json.dumps(config))
    return folder


def test_a_decoder_that_a_family_was_not_checked_with_is_refused(tmp_path):
    folder = changed(write_tiny("internvl", tmp_path), model_type="mistral", sliding_window=None)
    with pytest.raises(
        ModelError, match="InternVL3, InternVL3.5 with a 'mistral' decoder; headwise drives it with qwen2"
    ):
        find_checkpoint(str(folder))


def test_sliding_windows_are_refused_before_weights(tmp_path):
    folder = changed(write_tiny("llava_onevision", tmp_path), layer_types=["sliding_attention"] * 6)
    with pytest.raises(ModelError, match="attends in sliding windows"):
        find_checkpoint(str(folder))


def test_float16_is_refused_where_it_overflows(tmp_path):
    with pytest.raises(ModelError, match=r"float16 overflows in Qwen2\.5-VL"):
        Vlm(find_checkpoint(str(write_tiny("qwen2_5_vl", tmp_path))), "float16", "cpu")


def test_the_tokenizers_end_of_sequence_ends_answers_too(tmp_path):
    folder = write_tiny("qwen2_5_vl", tmp_path)
    (folder / "generation_config.json").write_text('{"eos_token_id": 311}')
    vlm = Vlm(find_checkpoint(str(folder)), "auto", "cpu")
    assert set(vlm.model.generation_config.eos_token_id) == {311, 310}


def test_limits_of_image_size_change_v_and_what_answers_are_kept_under(tmp_path):
    checkpoint = find_checkpoint(str(write_tiny("qwen2_5_vl", tmp_path)))
    small = checkpoint.seen_as(ImageOptions(min_pixels=256, max_pixels=1024))
    assert checkpoint.image_options == {"min_pixels": 200_704, "max_pixels": 1_605_632}
    vlm = Vlm(small, "auto", "cpu")
    (picture,) = vlm.encode_images([vlm.prepare(Image.new("RGB", (100, 50)))])
    assert picture.visual <= 1024 / 8**2
    assert small.image_parts != checkpoint.image_parts


@pytest.mark.parametrize(
    ("name", "images", "words"),
    [
        (
            "qwen2_5_vl",
            ImageOptions(max_tiles=3),
            "max_tiles: Qwen2.5-VL does not read this setting; it reads min_pixels",
        ),
        ("llava_next", ImageOptions(max_pixels=9), "its images have one size|does not read"),
        ("qwen3_vl", ImageOptions(min_pixels=9, max_pixels=8), "min_pixels: 9 is more than max_pixels, 8"),
    ],
)
def test_limits_that_a_family_does_not_read_are_refused(name, images, words):
    with pytest.raises(ConfigError, match=words):
        FAMILIES[name].check(images)


def test_tiles_are_limited_in_internvl(tmp_path):
    checkpoint = find_checkpoint(str(write_tiny("internvl", tmp_path)))
    counts = []
    for tiles in (1, 2, 12):
        vlm = Vlm(checkpoint.seen_as(ImageOptions(max_tiles=tiles)), "auto", "cpu")
        counts += [each.visual for each in vlm.encode_images([vlm.prepare(Image.new("RGB", (96, 32)))])]
    assert counts == [16, 48, 64]  # one tile; two and the whole; three and the whole


@pytest.mark.parametrize(("size", "grid"), [((64, 64), (2, 2)), ((20, 20), (0, 0))])
def test_smolvlms_tiles_are_written_as_its_processor_writes_them(tmp_path, size, grid):
    vlm = Vlm(find_checkpoint(str(write_tiny("smolvlm", tmp_path))), "auto", "cpu")
    pixels = {"rows": [[grid[0]]], "cols": [[grid[1]]]}
    shape = {"fake_token_around_image": "<fake_token_around_image>", "image_token": "<image>"}
    shape |= {"global_image_token": "<global-img>"}
    tiles = grid[0] * grid[1] + 1
    wanted = _prompt_split_image(16, *grid, **shape) if all(grid) else _prompt_single_image(16, **shape)
    assert vlm.family.span_text(*grid, "<image>" * 16) == wanted
    ids = vlm.family.span_ids(vlm.tokenizer, vlm.model.config, pixels, 16 * tiles)
    assert ids == vlm.tokenizer(wanted, add_special_tokens=False).input_ids
