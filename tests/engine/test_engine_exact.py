"""The engine against plain transformers, and every optimization on against off."""

from dataclasses import fields

import pytest
import torch
from tiny_llava import write_tiny_llava
from transformers import DynamicCache, LlavaForConditionalGeneration

from headwise.engine import Engine, Optimizations, Question, run_prompt
from headwise.errors import ConfigError
from headwise.models.decoder import Decoder
from headwise.study.cells import Cell

VISUAL, START, STEPS = 36, 5, 6
CELLS = [Cell(strategy="vanilla", tokens=VISUAL, heads=0)] + [
    Cell(strategy=strategy, tokens=tokens, heads=heads, budget="kept")
    for strategy in ("sparsity", "hierarchical", "random_heads", "random_tokens", "all_heads", "sum")
    for tokens in (20, 7)
    for heads in (6, 3)
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = write_tiny_llava(tmp_path_factory.mktemp("tiny"), layers=5, side=6)
    return LlavaForConditionalGeneration.from_pretrained(folder).eval()


def prompts(count, lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    system = torch.randn(START, 32, generator=generator)
    images = torch.randn(2, VISUAL, 32, generator=generator)
    questions = [torch.randn(lengths[i % len(lengths)], 32, generator=generator) for i in range(count)]
    return system, images, questions


def reference(model, embeds_SD, kept, layer, steps):
    """Greedy answer with everything recomputed each step: K full layers, then the kept positions only."""
    body, tokens = model.model.language_model, []
    while len(tokens) < steps and not (tokens and tokens[-1] == 2):
        said = body.get_input_embeddings()(torch.tensor(tokens, dtype=torch.long))
        hidden = torch.cat([embeds_SD, said])[None]
        positions = torch.arange(hidden.shape[1])[None]
        for index, block in enumerate(body.layers):
            if index == layer:
                keep = torch.cat([torch.arange(START), START + kept, torch.arange(START + VISUAL, hidden.shape[1])])
                hidden, positions = hidden[:, keep], positions[:, keep]
            mask = torch.ones(hidden.shape[1], hidden.shape[1], dtype=torch.bool).tril()[None, None]
            rope = body.rotary_emb(hidden, positions)
            hidden = block(hidden, attention_mask=mask, position_embeddings=rope)
        tokens.append(int(model.lm_head(body.norm(hidden[0, -1])).argmax()))
    return tokens


def grid(model, system, images, questions, optimizations=None):
    engine = Engine(Decoder(model), system, CELLS, VISUAL, STEPS, optimizations)
    asked = [Question(n % 2, question, f"sample {n}") for n, question in enumerate(questions)]
    return engine.answer(images, asked)


@pytest.mark.parametrize("few", [0, 8], ids=["system prompt shared", "system prompt in every branch"])
@torch.inference_mode()
def test_every_branch_says_what_recomputing_everything_says(model, monkeypatch, few):
    monkeypatch.setattr("headwise.engine.prefix.SHORT_PROMPT_MAX", few)
    system, images, questions = prompts(5, [4, 7, 3])
    for number, branches in enumerate(grid(model, system, images, questions)):
        embeds = torch.cat([system, images[number % 2], questions[number]])
        for cell, branch in zip(CELLS, branches, strict=True):
            assert branch.tokens == reference(model, embeds, branch.kept_R, cell.layer, STEPS), cell


@torch.inference_mode()
def test_keeping_every_token_is_the_unpruned_model(model):
    system, images, questions = prompts(1, [6])
    embeds = torch.cat([system, images[0], questions[0]])
    cells = [Cell(strategy="sum", tokens=VISUAL, heads=4, budget="kept"), CELLS[0]]
    pruned, vanilla = run_prompt(model, embeds, slice(START, START + VISUAL), cells, STEPS)
    generated = model.generate(inputs_embeds=embeds[None], max_new_tokens=STEPS, do_sample=False)[0].tolist()
    assert pruned.tokens == vanilla.tokens == generated
    torch.testing.assert_close(pruned.logits, vanilla.logits, rtol=0, atol=0)
    cache = model.model.language_model(inputs_embeds=embeds[None], past_key_values=DynamicCache()).last_hidden_state
    torch.testing.assert_close(vanilla.logits, model.lm_head(cache[0, -1]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", [field.name for field in fields(Optimizations)])
def test_an_optimization_changes_no_answer(model, name, monkeypatch):
    monkeypatch.setattr("headwise.engine.prefix.SHORT_PROMPT_MAX", 0)
    system, images, questions = prompts(6, [4, 9, 5], seed=1)
    on = grid(model, system, images, questions)
    off = grid(model, system, images, questions, Optimizations(**{name: False}))
    assert [[b.tokens for b in row] for row in on] == [[b.tokens for b in row] for row in off]
    assert [[b.kept_R.tolist() for b in row] for row in on] == [[b.kept_R.tolist() for b in row] for row in off]


def test_equal_branches_run_once(model):
    system, images, questions = prompts(1, [4])
    shared = [branch.shared for branch in grid(model, system, images, questions)[0]]
    names = [cell.strategy for cell in CELLS]
    assert all(count == 2 for name, count in zip(names, shared, strict=True) if name == "random_tokens")


def test_random_controls_depend_on_seed_and_sample_alone(model):
    system, images, questions = prompts(2, [4])
    first, again = (grid(model, system, images, questions) for _ in range(2))
    place = [cell.strategy for cell in CELLS].index("random_tokens")
    assert first[0][place].kept_R.tolist() == again[0][place].kept_R.tolist()
    assert first[0][place].kept_R.tolist() != first[1][place].kept_R.tolist()
    small = set(first[0][place + 2].kept_R.tolist())
    assert small < set(first[0][place].kept_R.tolist())


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (Cell(strategy="sparsty", tokens=9, heads=2, budget="kept"), "'sparsty' is not one of sum"),
        (Cell(strategy="sum", tokens=9, heads=9, budget="kept"), "9 is not between 1 and 8"),
        (Cell(strategy="sum", tokens=3, heads=2), "feasible budgets are 15 to 36"),
        (Cell(strategy="sum", tokens=9, heads=2, layer=5), "layer: 5 is not between 1 and 4"),
    ],
)
def test_a_cell_that_does_not_fit_is_refused(model, cell, words):
    system, images, questions = prompts(1, [4])
    embeds = torch.cat([system, images[0], questions[0]])
    with pytest.raises(ConfigError, match=words):
        run_prompt(model, embeds, slice(START, START + VISUAL), [cell], 2)


def test_out_of_memory_halves_the_work(monkeypatch):
    from headwise.engine.memory import with_halving

    def run(work):
        if len(work) > 2:
            raise torch.OutOfMemoryError("too much")
        return [item * 10 for item in work]

    assert with_halving(run, list(range(7))) == [n * 10 for n in range(7)]
