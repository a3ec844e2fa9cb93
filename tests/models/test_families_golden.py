"""Every family against transformers' own forward: heads, kept tokens, logits, greedy answers."""

import json
from dataclasses import fields, replace
from functools import cache

import pytest
import torch
from families_golden import FAMILIES, GOLDEN, Golden

from headwise.engine import Engine, Optimizations, Question, branches, run_inputs
from headwise.engine.prefix import Questions
from headwise.errors import ConfigError, ModelError
from headwise.models import family_of
from headwise.models.contract import Family
from headwise.models.decoder import Decoder
from headwise.study.cells import Cell

golden = cache(Golden)


@pytest.mark.parametrize("short", [0, 8], ids=["system prompt shared", "system prompt in every branch"])
@pytest.mark.parametrize("name", FAMILIES)
@torch.inference_mode()
def test_heads_tokens_logits_and_answers_are_those_of_the_masked_forward(name, short, monkeypatch):
    monkeypatch.setattr("headwise.engine.prefix.SHORT_PROMPT_MAX", short)
    data = golden(name)
    assert {prompt: data.wrong(prompt, data.run(prompt)) for prompt in data.prompts} == {p: [] for p in data.prompts}


@pytest.mark.parametrize("switch", [field.name for field in fields(Optimizations)])
@pytest.mark.parametrize("name", ["qwen3_vl", "smolvlm"])
@torch.inference_mode()
def test_without_an_optimization_the_answers_are_the_same(name, switch, monkeypatch):
    monkeypatch.setattr("headwise.engine.prefix.SHORT_PROMPT_MAX", 0)
    data = golden(name)
    assert not data.wrong(2, data.run(2, Optimizations(**{switch: False})))


@pytest.mark.parametrize("name", ["llava_next", "qwen2_5_vl", "qwen3_vl", "smolvlm"])
@torch.inference_mode()
def test_images_of_unlike_sizes_in_one_call_answer_as_alone(name):
    """Images 0 and 1 have equally many tokens at other positions; image 2 has another number."""
    data = golden(name)
    family = family_of(data.model.config)
    prompts = [family.read_prompt(data.model, data.inputs(prompt)) for prompt in data.prompts]
    engine = Engine(Decoder(data.model), prompts[0].before_MD, list(data.cells.values()), None, 5, keep_logits=True)
    asked = [Question(place, prompt.after_QD) for place, prompt in enumerate(prompts)]
    rows = engine.answer([prompt.picture for prompt in prompts], asked)
    assert len({prompt.picture.visual for prompt in prompts}) == 2
    assert [data.wrong(prompt, row) for prompt, row in enumerate(rows)] == [[]] * len(prompts)


def compact(monkeypatch):
    """Kept tokens stand at M, M + 1, … instead of where they stood."""
    right = Questions.visual_rows

    def wrong(self, layer, rows_B, kept_BR):
        hidden, positions = right(self, layer, rows_B, kept_BR)
        count = self.images.system.length + torch.arange(positions.shape[1])
        return hidden, count.expand(len(rows_B), -1)

    monkeypatch.setattr(Questions, "visual_rows", wrong)


def text_behind_all_tokens(monkeypatch):
    """Text behind the image at M + V."""
    right = Family.picture

    def wrong(self, model, ids_S, start, *rest):
        picture = right(self, model, ids_S, start, *rest)
        return replace(picture, after=start + len(picture.span_SD))

    monkeypatch.setattr(Family, "picture", wrong)


def deepstack_ends_at_the_stage(monkeypatch):
    monkeypatch.setattr(branches, "add_deep", lambda *_: None)


def answers_from_the_length(monkeypatch):
    """Answers go on from S, the number of positions, instead of from the largest position."""
    right = branches.gather

    def wrong(nodes):
        rows = right(nodes)
        images = nodes[0].trunk.images
        return replace(rows, after_B=torch.full_like(rows.after_B, images.length + nodes[0].length))

    monkeypatch.setattr(branches, "gather", wrong)


def a_layer_late(monkeypatch):
    right = run_inputs
    monkeypatch.setattr(
        "families_golden.run_inputs",
        lambda model, inputs, cells, *rest, **more: right(
            model, inputs, [replace(cell, layer=cell.layer + 1) for cell in cells], *rest, **more
        ),
    )


@pytest.mark.parametrize(
    ("name", "mistake", "most"),
    [
        ("qwen3_vl", compact, 0),
        ("qwen2_5_vl", compact, 0),
        ("internvl", compact, 0),
        ("smolvlm", compact, 0),
        ("qwen2_5_vl", text_behind_all_tokens, 0),
        ("qwen3_vl", text_behind_all_tokens, 0),
        ("qwen3_vl", deepstack_ends_at_the_stage, 4),
        ("qwen2_5_vl", answers_from_the_length, 8),
        ("qwen3_vl", a_layer_late, 0),
        ("internvl", a_layer_late, 0),
    ],
)
@torch.inference_mode()
def test_a_deliberate_mistake_fails_the_golden_files(name, mistake, most, monkeypatch):
    """`most`: pruned cells, of 16, that may fit all the same (at K = 3 no deepstack is cut; not every answer turns)."""
    mistake(monkeypatch)
    data = golden(name)
    pruned = [cell for cell in data.cells if cell != "vanilla"]
    wrong = [set(data.wrong(prompt, data.run(prompt))) & set(pruned) for prompt in data.prompts]
    assert len(pruned) * len(wrong) - sum(map(len, wrong)) <= most


def test_gemma_is_refused_by_name_with_the_reason():
    from transformers import AutoConfig

    with pytest.raises(ModelError, match=r"'gemma3' checkpoint.*both ways.*it drives idefics3, internvl, llava,"):
        family_of(AutoConfig.from_pretrained(GOLDEN / "gemma3"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "qwen2_moe"}, "'qwen2_moe' decoder; headwise drives llama, mistral"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding windows"),
        ({"model_type": "mistral", "sliding_window": 4096}, "sliding windows"),
    ],
)
def test_a_decoder_off_the_list_is_refused(change, words):
    from types import SimpleNamespace

    from headwise.models.decoder import check_text_config

    config = {"model_type": "qwen2", "sliding_window": None, "layer_types": ["full_attention"]} | change
    with pytest.raises(ModelError, match=words):
        check_text_config(SimpleNamespace(**config), "that")


def test_every_place_that_names_an_end_of_sequence_counts():
    data = golden("qwen2_5_vl")
    config = json.loads((GOLDEN / "qwen2_5_vl" / "generation_config.json").read_text())
    assert Decoder(data.model, [7]).eos == {7, *config["eos_token_id"], data.model.config.text_config.eos_token_id}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda given: given.pop("pixel_values"), "pixel_values are missing"),
        (lambda given: given.update(input_ids=given["input_ids"][:, :9]), "text behind"),
        (lambda given: given.update(input_ids=given["input_ids"].repeat(2, 1)), "one prompt"),
        (lambda given: given.pop("image_grid_thw"), "image_grid_thw is missing"),
    ],
)
def test_inputs_that_are_no_prompt_are_refused(change, words):
    data = golden("qwen2_5_vl")
    given = data.inputs(0)
    change(given)
    with pytest.raises(ModelError, match=words):
        run_inputs(data.model, given, [Cell(strategy="vanilla", tokens=1.0)], 1)


def test_methods_that_count_positions_anew_are_refused_on_three_axes():
    data = golden("qwen2_5_vl")
    with pytest.raises(ConfigError, match="pdrop counts positions anew"):
        run_inputs(data.model, data.inputs(0), [Cell(strategy="pdrop", tokens=0.5)], 1)
