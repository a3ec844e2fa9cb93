"""Methods before the language model on families: the rules for tiles on LLaVA-NeXT, refused elsewhere in one line."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from mlflow import MlflowClient
from models.clip_files import write_tiny_clip
from PIL import Image
from tiny_families import FAMILIES, write_tiny

from headwise.cli import headwise
from headwise.errors import ConfigError
from headwise.methods import METHODS, BeforeMethod, Reduced, Vision
from headwise.methods._tiles import Tiles, reduce_tiled, tile_budget
from headwise.models import FAMILIES as FAMILY_OF
from headwise.models.checkpoint import Vlm, find_checkpoint
from headwise.records import Sample
from headwise.run.answering import Answerer
from headwise.study.cells import Cell

BEFORE = [name for name, method in METHODS.items() if isinstance(method, BeforeMethod)]
TILED = ["cdpruner", "divprune", "fastervlm", "holov", "mmtok", "scope", "visionzip", "vispruner"]
SIZES = [(40, 60), (33, 90), (120, 30), (60, 40)]
PROMPTS = ("Is there a w5 ?", "What is there ?")
STEPS = 4


@pytest.fixture(scope="module")
def answerer(tmp_path_factory) -> Answerer:
    folder = write_tiny("llava_next", tmp_path_factory.mktemp("next"))
    return Answerer(Vlm(find_checkpoint(str(folder))), STEPS)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    return str(write_tiny_clip(tmp_path_factory.mktemp("clip"), width=32))


def picture(size) -> Image.Image:
    rng = np.random.default_rng(size[0])
    return Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


def cell(name: str, clip: str, tokens: float = 0.3) -> Cell:
    options = (("clip", clip),) if name == "cdpruner" else ()
    return Cell(strategy=name, tokens=tokens, budget="kept", options=options)


def test_methods_that_say_what_they_do_with_tiles():
    assert [name for name in BEFORE if METHODS[name].tiled] == TILED


@pytest.fixture(scope="module")
def by_hand(answerer):
    """Per picture: hidden states and attention by transformers' own tower, projected tiles, packed features."""
    model = answerer.vlm.model
    found = []
    for size in SIZES:
        given = answerer.vlm.prepare(picture(size))
        model.set_attn_implementation("eager")
        with torch.inference_mode():
            out = model.model.vision_tower(given["pixel_values"][0], output_hidden_states=True, output_attentions=True)
            tiles = model.model.multi_modal_projector(out.hidden_states[-2][:, 1:])
            packed = model.get_image_features(given["pixel_values"], given["image_sizes"], return_dict=True)
        model.set_attn_implementation("sdpa")
        found.append((given, out.attentions[-2][:, :, 0, 1:].mean(1), tiles, packed.pooler_output[0]))
    return found


def greedy(answerer: Answerer, rows_TD: torch.Tensor, prompt: str) -> list[int]:
    """transformers' own greedy answer to system prompt, those rows and the question."""
    vlm = answerer.vlm
    embeds = torch.cat([vlm.system(), rows_TD, vlm.question(prompt)])[None]
    tokens: list[int] = []
    with torch.inference_mode():
        while len(tokens) < STEPS and not (tokens and tokens[-1] in answerer.decoder.eos):
            hidden = vlm.model.model.language_model(inputs_embeds=embeds).last_hidden_state[0, -1]
            tokens.append(int(vlm.model.lm_head(hidden).argmax()))
            embeds = torch.cat([embeds, vlm.model.get_input_embeddings()(torch.tensor([[tokens[-1]]]))], dim=1)
    return tokens


def mosaic(given, model) -> list[int]:
    """Numbers of the tiles' patches row by row of the mosaic, written out as loops."""
    rows, columns = {tuple(size): (size[0] // 32, size[1] // 32) for size in model.config.image_grid_pinpoints}[
        grid_of(given, model)
    ]
    return [
        (1 + row * columns + column) * 16 + line * 4 + place
        for row in range(rows)
        for line in range(4)
        for column in range(columns)
        for place in range(4)
    ]


def grid_of(given, model):
    from transformers.image_processing_utils import select_best_resolution

    best = select_best_resolution(given["image_sizes"][0].tolist(), model.config.image_grid_pinpoints)
    return tuple(best)


def test_fastervlm_keeps_as_many_of_every_tile_in_the_order_of_the_mosaic(answerer, by_hand, clip):
    cells = [cell("fastervlm", clip)]
    for number, (given, attention_GV, tiles_GVD, packed_VD) in enumerate(by_hand):
        count = int(0.3 * len(packed_VD) + 0.5) // len(tiles_GVD)
        kept = {
            tile * 16 + int(patch)
            for tile, row in enumerate(attention_GV)
            for patch in row.topk(count).indices.tolist()
        }
        order = [*range(16), *mosaic(given, answerer.vlm.model)]
        rows_TD = tiles_GVD.flatten(0, 1)[[patch for patch in order if patch in kept]]
        branch = answered(answerer, cells, SIZES[number], PROMPTS[:1])[0][0]
        assert branch.tokens == greedy(answerer, rows_TD, PROMPTS[0])
        assert branch.visual == len(packed_VD)


def test_divprune_chooses_among_all_that_the_language_model_would_see(answerer, by_hand, clip):
    cells = [cell("divprune", clip), Cell(strategy="vanilla", tokens=1.0)]
    for number, (*_, packed_VD) in enumerate(by_hand):
        count = int(0.3 * len(packed_VD) + 0.5)
        kept = METHODS["divprune"].reduce(Vision(projected_VD=packed_VD), count, METHODS["divprune"].options()).kept
        branch, vanilla = answered(answerer, cells, SIZES[number], PROMPTS[:1])[0]
        assert branch.kept_R.tolist() == kept.tolist()
        assert branch.tokens == greedy(answerer, packed_VD[kept], PROMPTS[0])
        assert vanilla.tokens == greedy(answerer, packed_VD, PROMPTS[0])


def answered(answerer: Answerer, cells, size, prompts):
    asked = [Sample(benchmark="gqa", question_id=str(place), image="x", prompt=p) for place, p in enumerate(prompts)]
    pixels = {"x": answerer.reducer.prepare(picture(size), cells)}
    return [each.branches for each in answerer.branches(cells, pixels, asked)]


def test_places_are_where_the_patches_stand(answerer, by_hand):
    """A patch with a place has the packed feature of it; the others are padding."""
    for given, _, tiles_GVD, packed_VD in by_hand:
        patch_V, raster_P = answerer.reducer.layout(given)
        assert len(patch_V) == len(packed_VD)
        every_PD = tiles_GVD.flatten(0, 1)
        seen = patch_V >= 0
        assert torch.equal(every_PD[patch_V[seen]], packed_VD[seen])
        newline = answerer.vlm.model.model.image_newline
        assert torch.equal(packed_VD[~seen], newline.expand(int((~seen).sum()), -1))
        assert raster_P[16:].tolist() == mosaic(given, answerer.vlm.model)


def made_up_tiles(padding: bool = False) -> Tiles:
    """A base tile and two beside each other, of 4 patches each (2 x 2); all visible, a newline behind each row."""
    rng = torch.Generator().manual_seed(1)
    patch_V = torch.tensor([0, 1, 2, 3, 4, 5, 8, 9, -1, 6, 7, 10, 11, -1])
    if padding:
        patch_V = torch.tensor([0, 1, 2, 3, 4, 5, 8, 9, -1])
    raster_P = torch.tensor([0, 1, 2, 3, 4, 5, 8, 9, 6, 7, 10, 11])
    hidden = [torch.rand(5, 6, generator=rng) for _ in range(3)]
    visions = [
        Vision(
            hidden_NC=each,
            projected_VD=each[1:],
            attention_HV=torch.rand(2, 4, generator=rng),
            keys_HNd=torch.rand(2, 5, 3, generator=rng),
        )
        for each in hidden
    ]
    packed = torch.cat([*(each[1:] for each in hidden), torch.full((1, 6), 9.0)])[patch_V]
    return Tiles(visions, patch_V, raster_P, packed)


def test_visionzip_puts_class_tokens_and_merged_rows_of_all_tiles_behind_the_patches():
    tiles, method = made_up_tiles(), METHODS["visionzip"]
    options = method.options(contextual=1)
    each = [method.reduce(vision, 3, options) for vision in tiles.visions]
    found = reduce_tiled(method, tiles, 9, options, lambda rows: rows)
    base, first, second = (one.tokens_TC for one in each)
    patches = [(int(tiles.raster_P.tolist().index(4 + 4 * k + int(each[k + 1].kept[1]))), k) for k in (0, 1)]
    middle = [(first, second)[k][1] for _, k in sorted(patches)]
    assert torch.equal(found.rows_TD, torch.stack([*base, *middle, first[0], second[0], first[2], second[2]]))
    assert found.places_T.tolist()[0] == -1
    assert found.places_T.tolist()[5:] == [-1] * 4
    # Areas number rows without a place in their order: base [CLS], base merged, [CLS] x 2, merged x 2.
    assert set(found.area_V.tolist()) <= {0, 2, 5, 6}
    assert {2, 5, 6} <= set(found.area_V.tolist())


def test_holov_makes_one_choice_over_all_patches():
    tiles, method = made_up_tiles(), METHODS["holov"]
    whole = Vision(
        attention_HV=torch.cat([v.attention_HV for v in tiles.visions], 1),
        projected_VD=torch.cat([v.projected_VD for v in tiles.visions]),
    )
    want: Reduced = method.reduce(whole, 6, method.options())
    found = reduce_tiled(method, tiles, 6, method.options(), lambda rows: rows)
    real = want.kept >= 0
    assert torch.equal(found.rows_TD[real], whole.projected_VD[want.kept[real]])
    assert [int(tiles.patch_V[place]) for place in found.places_T[real]] == want.kept[real].tolist()


def test_patches_in_the_padding_have_no_place_and_are_not_taken_for_each_other():
    tiles, method = made_up_tiles(padding=True), METHODS["fastervlm"]
    found = reduce_tiled(method, tiles, 12, method.options(), lambda rows: rows)
    assert found.places_T.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, -1, -1, -1, -1]
    assert len(found.rows_TD) == 12


def test_cdpruner_scales_relevance_over_all_tiles():
    """One tile's patches are all far less relevant: a range of its own would not know."""
    method = METHODS["cdpruner"]
    rng = torch.Generator().manual_seed(2)
    visions = [
        Vision(
            hidden_NC=torch.rand(5, 6, generator=rng),
            projected_VD=torch.rand(4, 6, generator=rng),
            post_ln_weight=torch.ones(6),
            post_ln_bias=torch.zeros(6),
            visual_projection_EC=torch.rand(3, 6, generator=rng) - 0.5,
            text_ME=torch.rand(1, 3, generator=rng),
        )
        for _ in range(2)
    ]
    seen = []
    original = type(method).diverse

    def spy(self, vision, relevance_V, tokens):
        seen.append(relevance_V)
        return original(self, vision, relevance_V, tokens)

    type(method).diverse = spy
    try:
        method.reduce_tiles(visions, 2, method.options())
    finally:
        type(method).diverse = original
    every = torch.cat(seen)
    assert float(every.max()) == pytest.approx(1, abs=1e-4)
    assert sum(float(each.min()) < 1e-4 for each in seen) == 1


def test_a_tile_gets_what_is_feasible():
    visionzip, options = METHODS["visionzip"], METHODS["visionzip"].options(contextual=0)
    assert tile_budget(visionzip, 3, 5, 16, options) == 2
    assert tile_budget(METHODS["fastervlm"], 3, 5, 16, None) == 1
    assert tile_budget(METHODS["fastervlm"], 83, 5, 16, None) == 16


def test_questions_and_images_together_are_answered_as_alone(answerer, clip):
    cells = [cell(name, clip) for name in TILED] + [Cell(strategy="vanilla", tokens=1.0)]
    asked = [
        Sample(benchmark="gqa", question_id=f"{size}{place}", image=str(size), prompt=prompt)
        for size in SIZES
        for place, prompt in enumerate(PROMPTS)
    ]
    pixels = {str(size): answerer.reducer.prepare(picture(size), cells) for size in SIZES}
    together = answerer.branches(cells, pixels, asked)
    for sample, found in zip(asked, together, strict=True):
        for place, one in enumerate(cells):
            alone = answerer.branches([one], pixels, [sample])[0].branches[0]
            assert alone.tokens == found.branches[place].tokens
            assert alone.kept_R.tolist() == found.branches[place].kept_R.tolist()


def run(folder, bundle, *words):
    given = ("--model", str(folder), "--data-dir", str(bundle), "--benchmark", "mme", "--heads", "0.5", *words)
    return CliRunner().invoke(headwise, ["evaluate", *given])


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "llava_next"])
@pytest.mark.parametrize("tokens", ["0.5", "12"])
def test_other_families_refuse_before_weights_are_read(name, tokens, store, bundle, monkeypatch):
    monkeypatch.setattr(Vlm, "__init__", lambda *_, **__: pytest.fail("weights were read"))
    folder = write_tiny(name, store / "model")
    for method in BEFORE:
        done = run(folder, bundle, "--strategy", method, "--tokens", tokens)
        said = str(done.exception)
        assert isinstance(done.exception, ConfigError), done.output
        assert "\n" not in said
        assert said.startswith(f"strategy: {method} prunes before the language model, which is not defined for ")
        assert FAMILY_OF[name.replace("internvl3_5", "internvl")].no_views in said


@pytest.mark.parametrize("method", sorted(set(BEFORE) - set(TILED)))
def test_methods_without_a_rule_for_tiles_refuse_llava_next(method, store, bundle):
    done = run(write_tiny("llava_next", store / "model"), bundle, "--strategy", method, "--tokens", "0.5")
    assert isinstance(done.exception, ConfigError), done.output
    said = str(done.exception)
    assert f"{method} prunes before the language model, which is not defined for LLaVA-NeXT" in said
    assert "fastervlm" in said


def test_too_few_tokens_for_the_tiles_are_refused_before_weights(store, bundle):
    folder = write_tiny("llava_next", store / "model")
    done = run(folder, bundle, "--strategy", "fastervlm", "--tokens", "4", "--budget", "kept")
    assert isinstance(done.exception, ConfigError), done.output
    assert "tokens: 4 is too few for fastervlm" in str(done.exception)
    assert "smallest feasible budget is 5" in str(done.exception)


def test_a_study_of_the_methods_on_llava_next(store, bundle, clip, monkeypatch):
    monkeypatch.setenv("HEADWISE_HOME", str(store / "home"))
    for path, size in zip(sorted(bundle.rglob("*.jpg")), SIZES * 9, strict=False):
        picture(size).save(path)
    folder = write_tiny("llava_next", store / "model")
    words = ("--strategy", ",".join([*TILED, "fastv"]), "--tokens", "0.5", "--budget", "kept", "--clip", clip)
    done = CliRunner().invoke(headwise, ["run", "--model", str(folder), "--data-dir", str(bundle), "--benchmark", "mme",
                                         "--heads", "0.5", *words], catch_exceptions=False)  # fmt: skip
    assert done.exit_code == 0, done.output
    client = MlflowClient()
    experiments = [each.experiment_id for each in client.search_experiments()]
    cells = client.search_runs(experiments, "tags.`headwise.kind` = 'cell'")
    assert {run.data.params["strategy"] for run in cells} >= {*TILED, "fastv", "vanilla"}
    metrics = {run.data.params["strategy"]: run.data.metrics for run in cells}
    assert all(metrics[name]["failed"] == 0 for name in TILED)
    # Before the language model every layer sees the same rows: what is kept is the mean; tiles share T, rounded down.
    assert metrics["fastervlm"]["kept_tokens"] == metrics["fastervlm"]["mean_tokens"]
    assert metrics["divprune"]["kept_tokens"] == metrics["fastv"]["kept_tokens"]
    assert 0 < metrics["fastv"]["kept_tokens"] - metrics["fastervlm"]["kept_tokens"] < 5
