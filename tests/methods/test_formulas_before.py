"""Corners of the formulas that golden files do not reach: ties, odd sizes, duplicates, ranks used up, zero rows."""

import numpy as np
import pytest
import torch
from methods.vision_inputs import random_vision

from headwise.errors import ConfigError
from headwise.methods import METHODS, Reduced, Vision, reduce
from headwise.methods._clip import patch_embeddings
from headwise.methods._coverage import greedy_coverage
from headwise.methods.cdpruner import _scaled, greedy_map


def test_ties_go_to_the_lower_patch():
    flat = Vision(
        attention_HV=torch.full((4, 36), 0.02),
        hidden_NC=torch.eye(37),
        projected_VD=torch.eye(36),
        object_layer_V=torch.full((36,), 0.02),
        deep_layer_V=torch.full((36,), 0.02),
    )
    for name in ("fastervlm", "divprune", "scope"):
        assert reduce(name, flat, 5).kept.tolist() == [0, 1, 2, 3, 4]
    assert reduce("hiprune", flat, 5, alpha=0).kept.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("seed", range(4))
def test_coverage_chooses_what_computing_every_gain_chooses(seed):
    generator = torch.Generator().manual_seed(seed)
    value_VR = torch.randint(-2, 5, (60, 11), generator=generator).float()  # whole numbers: plenty of exact ties
    weight_V = torch.randint(1, 4, (60,), generator=generator).float()
    cover_R, chosen = torch.zeros(11), []
    for _ in range(60):
        gain_V = (value_VR - cover_R).clamp(min=0).sum(1) * weight_V
        gain_V[chosen] = -1
        chosen.append(int(gain_V.argmax()))
        cover_R = cover_R.maximum(value_VR[chosen[-1]])
    assert greedy_coverage(value_VR, weight_V, 60) == chosen


def test_the_greedy_map_maximises_the_determinant_step_by_step():
    factor = torch.randn(12, 12, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    kernel_VV = factor @ factor.T
    chosen: list[int] = []
    for _ in range(8):
        left = [index for index in range(12) if index not in chosen]
        gains = [float(torch.linalg.det(kernel_VV[[*chosen, index]][:, [*chosen, index]])) for index in left]
        chosen.append(left[int(np.argmax(gains))])
    assert greedy_map(kernel_VV, 8) == (chosen, False)


def test_a_kernel_without_rank_left_is_reported_not_nan():
    factor = torch.randn(10, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    chosen, degenerate = greedy_map(factor @ factor.T, 10)
    assert sorted(chosen) == list(range(10))
    assert degenerate
    assert not greedy_map(factor @ factor.T, 3)[1]


def test_cdpruner_of_equal_patches_is_reported():
    vision = random_vision(16)
    same = Vision(**{**vars(vision), "projected_VD": torch.ones(16, 48), "hidden_NC": torch.ones(17, 16)})
    reduced = reduce("cdpruner", same, 4)
    assert reduced.degenerate
    assert len(set(reduced.kept.tolist())) == 4


def test_divprune_takes_no_duplicate_twice():
    assert reduce("divprune", Vision(projected_VD=torch.ones(6, 4)), 6).kept.tolist() == list(range(6))


@pytest.mark.parametrize("visual", [2, 9, 35, 36])
@pytest.mark.parametrize("ratio", [0, 0.3, 0.5, 1])
def test_vispruner_at_odd_sizes(visual, ratio):
    vision = random_vision(visual)
    for tokens in range(1, visual + 1):
        kept = reduce("vispruner", vision, tokens, important_ratio=ratio).kept.tolist()
        assert kept == sorted(set(kept))
        assert len(kept) == tokens
    half = visual // 2
    important = reduce("fastervlm", vision, half).kept if ratio == 1 else None
    if important is not None:
        assert torch.equal(reduce("vispruner", vision, half, important_ratio=1).kept, important)


@pytest.mark.parametrize("tokens", range(1, 25))
def test_the_default_of_contextual_is_the_published_split(tokens):
    count = METHODS["visionzip"].options().count
    assert (count(192), count(128), count(64)) == (30, 20, 10)
    assert count(tokens) == int(np.floor(10 * tokens / 64 + 0.5))


def test_visionzip_without_contextual_rows():
    vision = random_vision()
    reduced = reduce("visionzip", vision, 5, contextual=0)
    assert reduced.kept.tolist() == [-1, *reduce("fastervlm", vision, 4).kept.tolist()]
    torch.testing.assert_close(reduced.tokens_TC[1:], vision.hidden_NC[reduced.kept[1:] + 1])


def test_a_visionzip_target_alone_keeps_its_features():
    vision = random_vision()
    reduced = reduce("visionzip", vision, 36, contextual=34)
    sums = reduced.weights_TN[2:].sum(1)
    assert set(sums.tolist()) <= {1.0, 2.0}  # a target, or a target plus the mean of what is assigned to it
    assert 1.0 in sums


def test_holov_fills_up_with_zero_rows_at_the_end():
    peak = torch.full((1, 64), 1e-6)
    peak[0, :4] = 0.2
    vision = Vision(attention_HV=peak, projected_VD=torch.randn(64, 8))
    reduced = reduce("holov", vision, 20)
    kept = reduced.kept.tolist()
    assert kept[:4] == [0, 1, 2, 3]
    empty = kept.index(-1)
    assert kept[empty:] == [-1] * (20 - empty)
    rows_TD = reduced.embeddings(vision.projected_VD, lambda rows: rows + 1)
    assert torch.equal(rows_TD[:4], vision.projected_VD[:4])
    assert not rows_TD[empty:].any()


def test_holov_with_fewer_patches_than_blocks():
    assert len(reduce("holov", Vision(attention_HV=torch.rand(2, 9), projected_VD=torch.randn(9, 4)), 9).kept) == 9


def test_hiprune_neighbours_wrap_across_rows_and_stop_at_the_ends():
    object_V, deep_V = torch.zeros(25), torch.arange(25.0)
    object_V[5] = 1  # row 1, first column: its left neighbour is the end of row 0
    kept = reduce("hiprune", Vision(object_layer_V=object_V, deep_layer_V=deep_V), 6, alpha=5 / 6).kept
    assert kept.tolist() == [0, 4, 5, 6, 10, 24]
    object_V[5], object_V[0] = 0, 1
    kept = reduce("hiprune", Vision(object_layer_V=object_V, deep_layer_V=deep_V), 6, alpha=5 / 6).kept
    assert kept.tolist() == [0, 1, 5, 22, 23, 24]


def test_prumerge_without_outliers():
    flat = random_vision(36)
    flat = Vision(**{**vars(flat), "q_NC": torch.zeros(37, 16)})
    rest = flat.hidden_NC[1:].sum(0) / 37
    only = reduce("prumerge", flat, 1, adaptive=True)
    assert only.kept.tolist() == [-1]
    torch.testing.assert_close(only.tokens_TC[0], rest)
    assert reduce("prumerge_plus", flat, 1, adaptive=True).kept.tolist() == [0, -1]


def test_prumerge_rows_take_their_neighbours_by_attention():
    vision = random_vision(40)
    reduced = reduce("prumerge", vision, 3)
    attention_V = (vision.q_NC[:1] @ vision.k_NC.T / 4).softmax(-1)[0, 1:]
    first = int(reduced.kept[0])
    near = torch.nn.functional.cosine_similarity(vision.k_NC[1:][first], vision.k_NC[1:], dim=-1)
    others = [place for place in near.argsort(descending=True).tolist() if place != first][:32]
    expected = vision.hidden_NC[1 + first] + (attention_V[others, None] * vision.hidden_NC[1:][others]).sum(0)
    torch.testing.assert_close(reduced.tokens_TC[0], expected)


def test_the_grids_of_pool():
    grid = METHODS["pool"].options().of
    assert [grid(tokens, 24) for tokens in (192, 144, 128, 64)] == [(12, 16), (12, 12), (8, 16), (8, 8)]
    pooled = reduce("pool", Vision(hidden_NC=torch.arange(577.0)[:, None]), 64)
    first = [1 + 24 * row + column for row in range(3) for column in range(3)]
    assert pooled.tokens_TC[0, 0].item() == pytest.approx(np.mean(first), rel=1e-6)  # the last bit is the processor's
    with pytest.raises(ConfigError, match="pool"):
        reduce("pool", Vision(hidden_NC=torch.ones(31, 4)), 4)


def test_downsample_acts_on_the_image():
    method = METHODS["downsample"]
    assert [method.image_side(tokens, 14) for tokens in (192, 128, 64)] == [182, 154, 112]
    assert [method.rows(tokens, 576, method.options()) for tokens in (192, 128, 64)] == [169, 121, 64]
    small = Vision(projected_VD=torch.randn(169, 4))
    assert reduce("downsample", small, 192).kept.tolist() == list(range(169))
    with pytest.raises(ConfigError, match="downsample: 576 patches are not those of the smaller image, which has 169"):
        reduce("downsample", Vision(projected_VD=torch.randn(576, 4)), 192)


def test_the_relevance_of_cdpruner_on_llm_embeddings_has_no_minus():
    projected_VD = torch.eye(4)
    words_mD = torch.tensor([[0.0, 0.0, 3.0, 1.0]])
    vision = Vision(projected_VD=projected_VD, words_mD=words_mD)
    assert reduce("cdpruner_llm", vision, 1).kept.tolist() == [2]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cdpruner", "What is on the sign?\nReference OCR token: STOP"),
        ("cdpruner_llm", "What is on the sign?\nReference OCR token: STOP"),
        ("mmtok", "on sign Reference OCR token STOP"),
        ("trim", "What is on the sign?\nReference OCR token: STOP\nAnswer the question using a single word or phrase."),
    ],
)
def test_the_text_that_a_method_reads(name, text):
    prompt = "What is on the sign?\nReference OCR token: STOP\nAnswer the question using a single word or phrase."
    assert METHODS[name].text(prompt) == text


def test_mmtok_reads_the_question_where_no_word_is_left():
    assert METHODS["mmtok"].text("What is it?") == "What is it?"


def test_made_rows_go_through_the_projector():
    reduced = Reduced(torch.tensor([-1]), tokens_TC=torch.ones(1, 2))
    assert reduced.embeddings(torch.zeros(3, 2), lambda rows: 2 * rows).tolist() == [[2, 2]]


@pytest.mark.parametrize("seed", range(3))
def test_mmtok_weighs_words_against_image(seed):
    vision = random_vision(30, seed, torch.float64)
    words = torch.nn.functional.cosine_similarity(vision.words_mD[:, None], vision.projected_VD, dim=-1) / 0.1
    image = torch.nn.functional.cosine_similarity(vision.hidden_NC[1:, None], vision.hidden_NC[1:], dim=-1) / 0.2
    value_RV = torch.cat([words.softmax(1) / 3, 0.5 * image.softmax(1) / 30])
    chosen: list[int] = []
    for _ in range(10):
        cover_R = value_RV[:, chosen].amax(1) if chosen else torch.zeros(33, dtype=torch.float64)
        gain_V = (value_RV - cover_R[:, None]).clamp(min=0).sum(0)
        gain_V[chosen] = -1
        chosen.append(int(gain_V.argmax()))
    assert reduce("mmtok", vision, 10, temperature=0.1).kept.tolist() == sorted(chosen)


def test_the_least_relevant_patch_of_cdpruner_keeps_a_trace_of_relevance():
    scaled = _scaled(torch.tensor([2.0, 3.0, 6.0], dtype=torch.float64), 1e-6)
    torch.testing.assert_close(scaled, torch.tensor([0.25e-6, 0.25 + 0.25e-6, 1 + 0.25e-6], dtype=torch.float64))


def test_patches_in_clips_space_are_those_of_its_own_layers():
    vision = random_vision(9, dtype=torch.float64)
    faint = Vision(**{**vars(vision), "hidden_NC": 1e-3 * vision.hidden_NC})  # so faint that the norm's epsilon counts
    norm = torch.nn.LayerNorm(16, eps=1e-5, dtype=torch.float64)
    norm.load_state_dict({"weight": vision.post_ln_weight, "bias": vision.post_ln_bias})
    expected = norm(faint.hidden_NC[1:]) @ vision.visual_projection_EC.T
    torch.testing.assert_close(patch_embeddings(faint), expected.detach())


def test_random_patches_do_not_look_and_smaller_budgets_are_subsets():
    """Whatever the image shows, one draw keeps the same places; another draw keeps others."""
    one, other = (Vision(projected_VD=torch.randn(576, 4)) for _ in range(2))
    large, small = (reduce("random_patches", one, tokens).kept.tolist() for tokens in (128, 64))
    assert large == sorted(set(large))
    assert (len(large), len(small)) == (128, 64)
    assert set(small) < set(large)
    assert reduce("random_patches", other, 64).kept.tolist() == small
    again = reduce("random_patches", one, 64, draw=1).kept.tolist()
    assert len(set(again) & set(small)) < 30


def test_random_patches_keep_every_place_about_equally_often():
    counts = torch.zeros(100)
    for draw in range(2000):
        counts[reduce("random_patches", Vision(projected_VD=torch.ones(100, 1)), 20, draw=draw).kept] += 1
    assert counts.sum() == 40_000
    assert (counts - 400).abs().max() < 5 * (2000 * 0.2 * 0.8) ** 0.5
