"""Signals of a CLIP tower against golden ones, from pixels to what the language model gets."""

import json

import pytest
import torch
from methods.vision_inputs import golden
from torch import nn
from torch.nn.functional import gelu, linear
from transformers import CLIPVisionConfig, CLIPVisionModel, LlavaForConditionalGeneration

from headwise.embedded import MODEL_DIR
from headwise.errors import ModelError
from headwise.methods import METHODS, Vision, reduce
from headwise.models.tower import Tower

GOLDEN = {
    name: torch.tensor(value) if name != "config" else json.loads(str(value)) for name, value in golden("tower").items()
}
CLOSE = {"rtol": 2e-4, "atol": 2e-4}
SIGNALS = (
    "attention_HV",
    "keys_HNd",
    "q_NC",
    "k_NC",
    "object_layer_V",
    "deep_layer_V",
    "post_ln_weight",
    "post_ln_bias",
)
OPTIONS = {"visionzip": {"contextual": 5}, "prumerge": {"adaptive": True}}
METHODS_OF_TOWER = ("visionzip", "fastervlm", "vispruner", "divprune", "cdpruner", "holov", "scope", "prumerge")


def vision_model(attention: str = "sdpa", **changes: int) -> CLIPVisionModel:
    config = CLIPVisionConfig(**GOLDEN["config"] | changes, attn_implementation=attention)
    return CLIPVisionModel(config).eval().requires_grad_(False)


def weights(prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in GOLDEN.items() if name.startswith(prefix)}


def project(rows: torch.Tensor) -> torch.Tensor:
    w = weights("weights/projector/")
    hidden = gelu(linear(rows, w["linear_1.weight"], w["linear_1.bias"]))
    return linear(hidden, w["linear_2.weight"], w["linear_2.bias"])


@pytest.fixture(scope="module")
def tower() -> Tower:
    model = vision_model()
    model.load_state_dict(weights("weights/vision_tower/"))
    return Tower(model, project)


@pytest.fixture(scope="module")
def visions(tower) -> list[Vision]:
    return tower.signals(GOLDEN["pixel_values"], SIGNALS)


@pytest.mark.parametrize("image", [0, 1])
def test_signals(visions, image):
    vision = visions[image]
    expected = {
        "hidden_NC": vision.hidden_NC,
        "attn_HV": vision.attention_HV,
        "metric_Nd": vision.keys_HNd.mean(0),
        "projected_VD": vision.projected_VD,
        "prumerge/q_NC": vision.q_NC,
        "prumerge/k_NC": vision.k_NC,
    }
    for name, signal in expected.items():
        torch.testing.assert_close(signal, GOLDEN[f"{image}/{name}"], **CLOSE)


@pytest.mark.parametrize("image", [0, 1])
@pytest.mark.parametrize("name", METHODS_OF_TOWER)
def test_from_pixels_to_the_language_model(tower, name, image):
    (vision,) = tower.signals(GOLDEN["pixel_values"][image : image + 1], METHODS[name].needs)
    clip = {key: GOLDEN[key] for key in ("visual_projection_EC", "text_ME")}
    vision = Vision(**vars(vision) | clip)
    reduced = reduce(name, vision, 16 if name == "cdpruner" else 32, **OPTIONS.get(name, {}))
    rows_TD = reduced.embeddings(vision.projected_VD, project)
    torch.testing.assert_close(rows_TD, GOLDEN[f"{image}/{name}/sequence"], **CLOSE)
    if f"{image}/{name}/kept" in GOLDEN:
        kept = reduced.kept[:27] + 1 if name == "visionzip" else reduced.kept
        assert torch.equal(kept, GOLDEN[f"{image}/{name}/kept"])


def test_every_golden_sequence_is_tested_above():
    assert {key.split("/")[1] for key in GOLDEN if key.endswith("/sequence")} == set(METHODS_OF_TOWER)


def test_attention_received_is_that_of_transformers_own_maps(tower, visions):
    model = vision_model("eager")
    model.load_state_dict(tower.tower.state_dict())
    maps = model(GOLDEN["pixel_values"], output_attentions=True).attentions
    for image, vision in enumerate(visions):
        for signal, layer in ((vision.object_layer_V, 8), (vision.deep_layer_V, 22)):
            torch.testing.assert_close(signal, maps[layer][image].mean((0, 1))[1:], rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(vision.attention_HV, maps[22][image][:, 0, 1:], rtol=1e-4, atol=1e-7)


def test_only_what_is_needed_is_computed(tower):
    ran: list[int] = []
    hooks = [
        layer.register_forward_hook(lambda *_, index=index: ran.append(index))
        for index, layer in enumerate(tower.layers)
    ]
    try:
        (first, _) = tower.signals(GOLDEN["pixel_values"], ("attention_HV",))
        assert ran == list(range(23))
        absent = [name for name, signal in vars(first).items() if signal is None]
        assert set(vars(first)) - set(absent) == {"hidden_NC", "projected_VD", "attention_HV"}
        tower.signals(GOLDEN["pixel_values"], ("q_NC", "k_NC"))
        assert ran == [*range(23), *range(23)]  # of the last layer its queries and keys alone
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize(("feature_layer", "layer"), [(-1, 3), (-2, 2), (3, 3), (1, 1), (-3, 1)])
def test_the_feature_layer_is_an_index_of_hidden_states(feature_layer, layer):
    model = vision_model(num_hidden_layers=3)
    pixels = torch.randn(2, 3, 48, 48)
    states = model(pixels, output_hidden_states=True).hidden_states
    vision = Tower(model, nn.Identity(), feature_layer).signals(pixels, SIGNALS)[1]
    torch.testing.assert_close(vision.hidden_NC, states[layer][1])
    last = model.encoder.layers[2]
    torch.testing.assert_close(vision.k_NC, last.self_attn.k_proj(last.layer_norm1(states[2]))[1])


def test_a_smaller_image_gets_interpolated_positions(tower):
    pixels = torch.randn(1, 3, 20, 20)
    (vision,) = tower.signals(pixels, ())
    states = tower.tower(pixels, interpolate_pos_encoding=True, output_hidden_states=True).hidden_states
    assert vision.projected_VD.shape == (25, 40)
    torch.testing.assert_close(vision.hidden_NC, states[-2][0])


@pytest.mark.parametrize("feature_layer", [0, 25, -25, [-2, -5], True])
def test_a_layer_that_the_tower_lacks_is_refused(tower, feature_layer):
    with pytest.raises(ModelError, match="vision tower: vision_feature_layer .* is not one of its 24 layers"):
        Tower(tower.tower, project, feature_layer)


def test_another_kind_of_tower_is_refused():
    class Other:
        config = type("Config", (), {"model_type": "siglip_vision_model"})

    with pytest.raises(ModelError, match="'siglip_vision_model' is not one"):
        Tower(Other(), project)


def test_the_embedded_checkpoint_is_read_as_transformers_reads_it():
    model = LlavaForConditionalGeneration.from_pretrained(MODEL_DIR).eval()
    pixels = torch.randn(2, 3, 192, 192, generator=torch.Generator().manual_seed(1))
    inner = model.model
    tower = Tower(inner.vision_tower, inner.multi_modal_projector, model.config.vision_feature_layer)
    visions = tower.signals(pixels, SIGNALS)
    with torch.no_grad():
        expected = model.get_image_features(pixels).pooler_output
    for vision, projected_VD in zip(visions, expected, strict=True):
        torch.testing.assert_close(vision.projected_VD, projected_VD, rtol=1e-5, atol=1e-5)
    for name in ("visionzip", "vispruner", "divprune", "holov", "prumerge_plus", "scope", "hiprune", "pool"):
        reduced = reduce(name, visions[0], 64)
        rows_TD = reduced.embeddings(visions[0].projected_VD, inner.multi_modal_projector)
        assert rows_TD.shape == (64, 128)
        assert rows_TD.isfinite().all()
