"""Prompt, image preparation and loading, on a checkpoint of random weights."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_llava import write_tiny_llava

from headwise.errors import DataError, ModelError
from headwise.models.checkpoint import BEFORE_IMAGE, Vlm, find_checkpoint, pad_to_square, pick_device
from headwise.system.reading import read_image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_llava(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def vlm(folder):
    return Vlm(find_checkpoint(str(folder)))


def test_geometry_comes_from_the_config_alone(folder):
    checkpoint = find_checkpoint(str(folder))
    assert (checkpoint.geometry.layers, checkpoint.geometry.heads, checkpoint.geometry.visual) == (4, 8, 16)
    assert checkpoint.shape["kv_heads"] == 8


def test_prompt_is_the_vicuna_conversation_with_one_beginning_of_sequence(vlm):
    """Layout of LLaVA's own tokenisation: the text before the image with BOS, the text after it without."""
    assert BEFORE_IMAGE.startswith("A chat between a curious user and an artificial intelligence assistant. The ")
    assert BEFORE_IMAGE.endswith("polite answers to the user's questions. USER: ")
    before = vlm.tokenizer(BEFORE_IMAGE).input_ids
    after = vlm.question_ids("Is there a cat ?\nAnswer the question using a single word or phrase.")
    assert before[0] == vlm.tokenizer.bos_token_id
    assert vlm.tokenizer.bos_token_id not in before[1:] + after
    words = vlm.tokenizer.convert_ids_to_tokens(after)
    assert words[:5] == ["Is", "there", "a", "cat", "?"]
    assert words[-2:] == ["ASSISTANT", ":"]


def test_the_engine_sees_what_transformers_would_see(vlm):
    """System, image and question embeddings joined give the logits of the model's own forward pass."""
    pixels = vlm.prepare(Image.new("RGB", (40, 20), (10, 200, 30)))
    visual = vlm.encode_images([pixels])
    prompt = "Is there a cat ?"
    embeds = torch.cat([vlm.system(), visual[0], vlm.question(prompt)])
    ids = vlm.tokenizer(BEFORE_IMAGE).input_ids + [4] * 16 + vlm.question_ids(prompt)
    with torch.inference_mode():
        ours = vlm.model(inputs_embeds=embeds[None]).logits
        theirs = vlm.model(input_ids=torch.tensor([ids]), pixel_values=pixels[None]).logits
    torch.testing.assert_close(ours, theirs)


def test_images_are_padded_to_a_square_of_the_mean_colour_and_centred():
    mean = (0.48145466, 0.4578275, 0.40821073)
    wide = Image.new("RGB", (6, 2), (255, 0, 0))
    pixels = np.asarray(pad_to_square(wide, mean))
    assert pixels.shape == (6, 6, 3)
    assert (pixels[2:4] == [255, 0, 0]).all()
    assert (pixels[:2] == [122, 116, 104]).all()
    assert (pixels[4:] == [122, 116, 104]).all()
    tall = np.asarray(pad_to_square(Image.new("RGB", (2, 5), (0, 0, 255)), mean))
    assert (tall[:, 1:3] == [0, 0, 255]).all()
    assert (tall[:, 0] == [122, 116, 104]).all()
    square = Image.new("RGB", (3, 3))
    assert pad_to_square(square, mean) is square


def test_padding_reaches_the_processor(vlm):
    pixels = vlm.prepare(Image.new("RGB", (64, 32), (255, 255, 255)))
    assert pixels.shape == (3, 32, 32)
    means, stds = vlm.processor.image_mean, vlm.processor.image_std
    border = [(int(mean * 255) / 255 - mean) / std for mean, std in zip(means, stds, strict=True)]
    np.testing.assert_allclose(pixels[:, 0, 0], border, atol=1e-4)


def test_text_loses_special_tokens(vlm):
    yes = vlm.tokenizer.convert_tokens_to_ids("yes")
    assert vlm.text([1, yes, 2]) == "yes"


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 30])
def test_an_unreadable_image_is_a_data_error_that_names_it(tmp_path, content):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read image .*broken.png"):
        read_image(path)


def test_a_missing_checkpoint_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match=r"'no/such-model' is not `embedded`, a folder"):
        find_checkpoint("no/such-model")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"no readable config.json"):
        find_checkpoint(str(tmp_path / "empty"))


def test_another_architecture_is_refused(folder, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(
        ModelError, match="'llama' checkpoint, which headwise does not drive; it drives .*llava, llava_next"
    ):
        find_checkpoint(str(tmp_path))


def test_a_checkpoint_without_safetensors_is_refused(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot load"):
        Vlm(find_checkpoint(str(copy)))


def test_digest_follows_the_weights(folder, tmp_path):
    other = write_tiny_llava(tmp_path / "other", seed=1)
    assert find_checkpoint(str(folder)).digest != find_checkpoint(str(other)).digest
    assert find_checkpoint(str(folder)).digest == find_checkpoint(str(folder)).digest


def test_an_absent_device_is_one_line():
    with pytest.raises(ModelError, match="device: 'cuda:9' is not available"):
        pick_device("cuda:9")
