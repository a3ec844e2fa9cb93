"""The committed checkpoint loads with plain transformers, has the promised shape, and can see."""

import json

import pytest
from PIL import Image

from headwise.embedded import DATA_DIR, MODEL_DIR
from tools.embedded.vocabulary import SYSTEM

FLOOR = 0.7  # of forty existence questions; always the same answer would give one half


@pytest.fixture(scope="module")
def llava():
    from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

    model = AutoModelForImageTextToText.from_pretrained(MODEL_DIR).eval()
    processor = AutoImageProcessor.from_pretrained(MODEL_DIR, backend="pil")
    return model, AutoTokenizer.from_pretrained(MODEL_DIR), processor


def test_shape_is_the_promised_one(llava):
    config = llava[0].config
    assert config.text_config.num_attention_heads == 32
    assert config.text_config.num_hidden_layers >= 8
    assert config.vision_feature_select_strategy == "default"
    assert (config.vision_config.image_size // config.vision_config.patch_size) ** 2 == 576


def test_checkpoint_stays_small():
    assert sum(path.stat().st_size for path in MODEL_DIR.rglob("*") if path.is_file()) < 20e6


def test_llava_processor_lays_out_576_image_tokens(llava):
    from transformers import LlavaProcessor

    processor = LlavaProcessor.from_pretrained(MODEL_DIR, backend="pil")
    image = Image.new("RGB", (192, 192))
    text = f"{SYSTEM} USER: <image>\nWhich place is this? ASSISTANT:"
    batch = processor(images=image, text=text, return_tensors="pt")
    assert (batch.input_ids == llava[0].config.image_token_id).sum() == 576


def test_tokenizer_round_trips_a_spelled_word(llava):
    ids = llava[1]("bat", add_special_tokens=False).input_ids
    assert llava[1].decode(ids) == "bat"


def answer(llava, image: Image.Image, question: str) -> str:
    model, tokenizer, processor = llava
    prompt = f"{SYSTEM} USER: {'<image>' * 576}\n{question} ASSISTANT:"
    pixels = processor(images=image, return_tensors="pt")["pixel_values"]
    ids = tokenizer(prompt, return_tensors="pt")
    out = model.generate(**ids, pixel_values=pixels, max_new_tokens=6, do_sample=False)
    return tokenizer.decode(out[0, ids.input_ids.shape[1] :], skip_special_tokens=True)


def test_answers_beat_guessing(llava):
    lines = (DATA_DIR / "pope/llava_pope_test.jsonl").read_text().splitlines()[:40]
    labels = {}
    for path in (DATA_DIR / "pope/coco").glob("*.json"):
        for row in map(json.loads, path.read_text().splitlines()):
            labels[row["image"], row["text"]] = row["label"]
    right = 0
    for row in map(json.loads, lines):
        image = Image.open(DATA_DIR / "pope/val2014" / row["image"])
        right += answer(llava, image, row["text"]) == labels[row["image"], row["text"].split("\n")[0]]
    assert right / len(lines) >= FLOOR
