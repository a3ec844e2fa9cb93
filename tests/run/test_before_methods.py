"""Methods before the language model in studies: their answers, what is shared, and what is kept of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from models.clip_files import write_tiny_clip
from PIL import Image
from tiny_llava import write_tiny_llava

from headwise.embedded import CLIP_DIR
from headwise.errors import ConfigError, ModelError
from headwise.methods import METHODS, BeforeMethod
from headwise.models.checkpoint import Vlm, find_checkpoint
from headwise.models.vision import clip_digest
from headwise.records import Sample
from headwise.run.answering import Answerer
from headwise.run.cell_runs import _options
from headwise.run.reducing import packed_area, smaller_grid, unpacked_area
from headwise.run.settings import StudySettings, load_settings
from headwise.run.tasks import Task, check_before
from headwise.study.cells import Cell, Geometry

BEFORE = [name for name, method in METHODS.items() if isinstance(method, BeforeMethod)]
STEPS = 5
PROMPTS = ("Is there a red cat ?", "What is there ?", "Is a dog blue ?")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return find_checkpoint(str(write_tiny_llava(tmp_path_factory.mktemp("llava"), side=6)))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    return str(write_tiny_clip(tmp_path_factory.mktemp("clip")))


@pytest.fixture(scope="module")
def answerer(checkpoint) -> Answerer:
    return Answerer(Vlm(checkpoint), STEPS)


def cell(name: str, tokens: int, clip: str, **options) -> Cell:
    if name in ("cdpruner", "trim"):
        options["clip"] = clip
    return Cell(strategy=name, tokens=tokens, options=tuple(sorted(options.items())))


def image(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 52, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def samples(images: int = 2) -> list[Sample]:
    return [
        Sample(benchmark="gqa", question_id=f"{number}-{place}", image=str(number), prompt=prompt)
        for number in range(images)
        for place, prompt in enumerate(PROMPTS)
    ]


def answered(answerer: Answerer, cells, asked):
    pixels = {sample.image: answerer.reducer.prepare(image(int(sample.image)), cells) for sample in asked}
    return answerer.branches(cells, pixels, asked)


def generated(answerer: Answerer, rows_TD: torch.Tensor, prompt: str) -> list[int]:
    """transformers' own greedy answer to system prompt, those rows and the question, whatever follows the end."""
    vlm = answerer.vlm
    embeds = torch.cat([vlm.system(), rows_TD, vlm.question(prompt)])[None]
    tokens: list[int] = []
    with torch.inference_mode():
        while len(tokens) < STEPS and not (tokens and tokens[-1] in answerer.decoder.eos):
            logits = vlm.model.model.language_model(inputs_embeds=embeds).last_hidden_state[0, -1]
            tokens.append(int(vlm.model.lm_head(logits).argmax()))
            embeds = torch.cat([embeds, vlm.model.get_input_embeddings()(torch.tensor([[tokens[-1]]]))], dim=1)
    return tokens


@pytest.mark.parametrize("name", BEFORE)
def test_answers_are_what_transformers_says_of_those_rows(answerer, clip, name):
    cells = [cell(name, tokens, clip) for tokens in (16, 9)]
    asked = samples()
    for sample, found in zip(asked, answered(answerer, cells, asked), strict=True):
        for each, branch, chosen in zip(cells, found.branches, found.chosen, strict=True):
            assert len(chosen.rows.rows_TD) == each.tokens
            assert branch.tokens == generated(answerer, chosen.rows.rows_TD, sample.prompt)


@pytest.mark.parametrize("name", BEFORE)
def test_a_grid_answers_as_each_cell_and_question_alone(answerer, clip, name):
    cells = [
        Cell(strategy="vanilla", tokens=36),
        Cell(strategy="fastv", tokens=20),
        cell("fastervlm", 16, clip),
        cell(name, 16, clip),
        cell(name, 4, clip),
    ]
    asked = samples()
    for sample, found in zip(asked, answered(answerer, cells, asked), strict=True):
        for each, branch in zip(cells, found.branches, strict=True):
            alone = answered(answerer, [each], [sample])[0].branches[0]
            assert branch.tokens == alone.tokens


def test_what_reads_no_question_has_one_prefix_per_image(answerer, clip):
    cells = [cell("divprune", 16, clip), cell("mmtok", 16, clip)]
    found = answered(answerer, cells, samples(1))
    assert len({id(each.chosen[0].rows) for each in found}) == 1
    assert len({id(each.chosen[1].rows) for each in found}) == len(PROMPTS)


def test_equal_choices_are_one_prefix(answerer, clip):
    cells = [cell("fastervlm", 16, clip), cell("vispruner", 16, clip, important_ratio=1.0)]
    found = answered(answerer, cells, samples(1))[0]
    assert found.chosen[0].rows is found.chosen[1].rows
    assert found.branches[0].shared == 2


def test_an_image_that_decides_gets_one_answer_whatever_t_is(answerer, clip):
    cells = [cell("prumerge", tokens, clip, adaptive=True) for tokens in (16, 9)]
    found = answered(answerer, cells, samples(1))[0]
    assert found.chosen[0].rows is found.chosen[1].rows


def test_the_text_that_a_method_reads_changes_what_it_keeps(answerer, clip):
    for name in ("cdpruner", "cdpruner_llm", "trim", "mmtok"):
        kept = {
            tuple(f.chosen[0].rows.places_T.tolist()) for f in answered(answerer, [cell(name, 8, clip)], samples(1))
        }
        assert len(kept) > 1, name


def test_merged_rows_are_kept_as_areas(answerer, clip):
    cells = [cell("pool", 9, clip), cell("downsample", 9, clip), cell("fastervlm", 9, clip)]
    found = answered(answerer, cells, samples(1))[0]
    records = [
        answerer._record(branch, 1.0, chosen) for branch, chosen in zip(found.branches, found.chosen, strict=True)
    ]
    grid = np.arange(36).reshape(6, 6)
    blocks = (grid // 6 // 2) * 3 + grid % 6 // 2 + 1
    for record in records[:2]:
        assert record["stages"][0][2] == 9
        assert (unpacked_area(record["area"]).reshape(6, 6) == blocks).all()
    assert "area" not in records[2]


def test_a_smaller_grid_covers_the_image():
    area = smaller_grid(576, 169)
    assert set(area.tolist()) == set(range(1, 170))
    assert (np.diff(area.reshape(24, 24), axis=1) >= 0).all()
    assert len(unpacked_area("")) == 0


def test_options_are_part_of_a_cells_key_and_name_and_a_clip_by_its_content(tmp_path):
    task = Task(name="gqa", data_dir=tmp_path, samples=[], questions=[], cells=[], group="", clips={"a": "1", "b": "1"})
    plain = Cell(strategy="trim", tokens=16)
    assert task.key(replace(plain, options=(("clip", "a"),))) == task.key(replace(plain, options=(("clip", "b"),)))
    changed = replace(task, clips={"a": "2"})
    assert changed.key(replace(plain, options=(("clip", "a"),))) != task.key(replace(plain, options=(("clip", "a"),)))
    other = Cell(strategy="vispruner", tokens=16, options=(("important_ratio", 0.75),))
    assert task.key(other) != task.key(replace(other, options=()))
    assert (other.name, plain.name) == ("vispruner-16-0-important_ratio=0.75", "trim-16-0")


def test_logged_options_name_a_clip_by_its_content(tmp_path):
    task = Task(
        name="gqa", data_dir=tmp_path, samples=[], questions=[], cells=[], group="", clips={"/x/clip": "ab" * 8}
    )
    clip = Cell(strategy="trim", tokens=16, options=(("adaptive", True), ("clip", "/x/clip")))
    assert _options(task, clip) == "adaptive=True,clip@abababab"
    assert _options(task, replace(clip, options=clip.options[:1])) == "adaptive=True"


def test_settings_give_methods_their_options():
    words = "vispruner.important_ratio=0.75, pool.grid=4x4,prumerge.adaptive=true"
    study = load_settings(
        None, {"strategy": "vispruner,fastervlm", "controls": "pool", "tokens": "16", "options": words}
    )
    cells = {cell.strategy: cell for cell in study.cells(Geometry(layers=4, heads=8, visual=36))}
    assert cells["vispruner"].options == (("important_ratio", 0.75),)
    assert cells["pool"].options == (("grid", (4, 4)),)
    assert cells["fastervlm"].options == ()


def test_a_default_given_in_words_is_no_other_cell():
    given = StudySettings(
        strategy=["vispruner"], controls=[], tokens=[16], options={"vispruner": {"important_ratio": 0.5}}
    )
    plain = StudySettings(strategy=["vispruner"], controls=[], tokens=[16])
    geometry = Geometry(layers=4, heads=8, visual=36)
    assert given.cells(geometry) == plain.cells(geometry)


def test_options_of_the_command_line_and_of_the_file_are_joined(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("options: {vispruner: {important_ratio: 0.25}, hiprune: {alpha: 0.2}}\n")
    study = load_settings(path, {"options": "vispruner.important_ratio=0.75"})
    assert study.options == {"vispruner": {"important_ratio": 0.75}, "hiprune": {"alpha": 0.2}}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"options": "vispruner.ratio=1"}, "options: vispruner: unknown option 'ratio'; allowed are important_ratio"),
        ({"options": "vispruner.important_ratio=2"}, "is not a number between 0 and 1"),
        ({"options": "vispruna.x=2"}, "options: 'vispruna' is not a method; those that have options are cdpruner"),
        ({"options": "vispruner"}, "options: 'vispruner' is not METHOD.OPTION=VALUE"),
        ({"options": "fastv.x=1"}, "options: fastv: unknown option 'x'; it has none"),
        ({"query": "first_token"}, "query: 'first_token' is not one of last_token, last_n_tokens"),
        ({"controls": "fastv"}, "controls: 'fastv' is not one of vanilla"),
    ],
)
def test_wrong_options_and_queries_are_one_line(settings, words):
    with pytest.raises(ConfigError, match=".") as caught:
        load_settings(None, settings)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["cdpruner", "trim"])
def test_without_a_clip_there_is_one_error_before_the_run(name):
    words = {"strategy": name, "controls": "none", "tokens": "16"}
    study = load_settings(None, words | {"model": "org/llava"})
    with pytest.raises(ConfigError, match=f"^{name}: needs CLIP's text tower.*option `clip`"):
        study.cells(Geometry(layers=4, heads=8, visual=36))


@pytest.mark.parametrize("name", ["cdpruner", "trim"])
def test_the_embedded_model_reads_its_own_clip_and_another_where_one_is_named(name, clip):
    words = {"strategy": name, "controls": "none", "tokens": "16"}
    (own,) = load_settings(None, words).cells(Geometry(layers=8, heads=32, visual=576))
    (other,) = load_settings(None, words | {"clip": clip}).cells(Geometry(layers=8, heads=32, visual=576))
    assert (own.clip, other.clip) == ("embedded", clip)
    assert check_before(find_checkpoint("embedded"), [own]) == {"embedded": clip_digest(str(CLIP_DIR), 96)}


def test_a_checkpoint_folder_may_bring_its_clip(tmp_path):
    """As the one that `python -m tools.embedded train` makes does."""
    words = {"strategy": "trim", "controls": "none", "tokens": "16", "model": str(tmp_path)}
    with pytest.raises(ConfigError, match="^trim: needs CLIP's text tower"):
        load_settings(None, words).cells(Geometry(layers=8, heads=32, visual=576))
    (tmp_path / "clip").mkdir()
    brought = write_tiny_clip(tmp_path / "clip")
    for given, expected in ({}, str(brought)), ({"clip": "embedded"}, "embedded"):
        (found,) = load_settings(None, words | given).cells(Geometry(layers=8, heads=32, visual=576))
        assert found.clip == expected


def test_query_rows_make_cells_of_what_reads_them_alone():
    words = {"strategy": "sparsity,fastv", "controls": "vanilla,all_heads,random_tokens", "tokens": "20", "heads": "4"}
    study = load_settings(None, words | {"query": "last_token,text_tokens_only"})
    names = [cell.name for cell in study.cells(Geometry(layers=4, heads=8, visual=36))]
    assert [name for name in names if name.endswith("-text_tokens_only")] == [
        "all_heads-20-8-text_tokens_only",
        "sparsity-20-4-text_tokens_only",
    ]
    assert len(names) == len(set(names)) == 7


def test_published_budgets_are_those_that_a_method_publishes():
    geometry = Geometry(layers=32, heads=32, visual=576)
    study = load_settings(None, {"strategy": "visionzip", "controls": "none", "tokens": "192", "budget": "published"})
    assert len(study.cells(geometry)) == 1
    with pytest.raises(ConfigError, match="192, 128, 64"):
        study.model_copy(update={"tokens": [100]}).cells(geometry)
    with pytest.raises(ConfigError, match="budget: published is not defined for divprune"):
        study.model_copy(update={"strategy": ["divprune"]}).cells(geometry)


def test_a_clip_is_checked_before_the_run(checkpoint, clip, tmp_path):
    cells = [cell("trim", 8, clip)]
    assert check_before(checkpoint, cells) == {clip: clip_digest(clip, 16)}
    with pytest.raises(ModelError, match="clip: cannot load|clip: .* has no readable config.json"):
        check_before(checkpoint, [cell("trim", 8, str(tmp_path))])
    with pytest.raises(ModelError, match="has a vision tower of width 16; the model's has 24"):
        clip_digest(clip, 24)


def test_packed_area_of_patches_alone_is_empty():
    from headwise.methods import Reduced

    assert packed_area(Reduced(torch.tensor([1, 2]))) == ""
