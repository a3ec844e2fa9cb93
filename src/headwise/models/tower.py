"""The signals of a CLIP vision tower that methods before the language model read, computed with its own layers.

Axes as in methods/contract.py, with I images in front. Layers are run one by one and no further than needed. Queries
and keys come from the layer's own norm and projections, and [CLS] attention from one query row: so it does not matter
which attention implementation the checkpoint runs, and no full attention map is made but for HiPrune.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor

from headwise.errors import ModelError
from headwise.methods.contract import Vision


class Tower:
    """A CLIP vision tower, its projector, and the layer whose output the projector reads.

    Args:
        vision_tower: transformers' CLIPVisionModel.
        project: the projector, [..., C] to [..., D].
        feature_layer: LLaVA's vision_feature_layer, an index of hidden_states: −2 is the output of the last layer but
            one.

    Raises:
        ModelError: another kind of tower, or no such layer.
    """

    def __init__(self, vision_tower: Any, project: Callable[[Tensor], Tensor], feature_layer: int = -2) -> None:
        """Take a loaded tower.

        Args:
            vision_tower: a CLIP vision tower of transformers.
            project: the projector, tower rows [n, C] → language-model rows [n, D].
            feature_layer: the model's vision_feature_layer, an index into hidden_states.

        Raises:
            ModelError: another kind of tower, or a layer that it does not have.
        """
        kind = vision_tower.config.model_type
        if kind != "clip_vision_model":
            raise ModelError(f"vision tower: {kind!r} is not one that these methods can read, `clip_vision_model` is")
        self.tower, self.project = vision_tower, project
        self.layers = list(vision_tower.encoder.layers)
        count = len(self.layers)
        if type(feature_layer) is not int or feature_layer not in [*range(-count, 0), *range(1, count + 1)]:
            raise ModelError(f"vision tower: vision_feature_layer {feature_layer!r} is not one of its {count} layers")
        # hidden_states[0] is the embeddings, so that hidden_states[-2] is what layer index count − 2 puts out.
        self.feature = feature = feature_layer % (count + 1) - 1
        # HiPrune's object layer is the ninth of 24 (from 1); other towers get the one at the same relative depth.
        self.layer_of = {
            "attention_HV": feature,
            "keys_HNd": feature,
            "deep_layer_V": feature,
            "object_layer_V": max(0, 9 * count // 24 - 1),
            "q_NC": count - 1,
            "k_NC": count - 1,
        }

    @torch.inference_mode()
    def signals(self, pixels_I3hw: Tensor, needs: Collection[str]) -> list[Vision]:
        """One Vision per prepared image: hidden_NC, projected_VD and what else `needs` names of the tower's.

        Signals of the text are left absent. Images of another size than the tower's own get interpolated position
        embeddings.
        """
        read = {self.layer_of[name] for name in needs if name in self.layer_of}
        state_INC = self._embed(pixels_I3hw)
        queries_keys: dict[int, tuple[Tensor, Tensor]] = {}
        hidden_INC = state_INC
        for index in range(max({self.feature, *read}) + 1):
            layer = self.layers[index]
            if index in read:
                normed_INC = layer.layer_norm1(state_INC)
                queries_keys[index] = layer.self_attn.q_proj(normed_INC), layer.self_attn.k_proj(normed_INC)
            if index <= self.feature or any(later > index for later in read):
                state_INC = layer(state_INC, attention_mask=None)
            if index == self.feature:
                hidden_INC = state_INC
        return self._visions(hidden_INC, queries_keys, needs)

    def _embed(self, pixels_I3hw: Tensor) -> Tensor:
        size = self.tower.config.image_size
        resized = tuple(pixels_I3hw.shape[-2:]) != (size, size)
        return self.tower.pre_layrnorm(self.tower.embeddings(pixels_I3hw, interpolate_pos_encoding=resized))

    def _visions(
        self, hidden_INC: Tensor, queries_keys: dict[int, tuple[Tensor, Tensor]], needs: Collection[str]
    ) -> list[Vision]:
        norm = self.tower.post_layernorm
        shared = {"post_ln_weight": norm.weight, "post_ln_bias": norm.bias}
        shared = {name: value for name, value in shared.items() if name in needs}
        projected_IVD = self.project(hidden_INC[:, 1:])
        visions = []
        for image, (hidden_NC, projected_VD) in enumerate(zip(hidden_INC, projected_IVD, strict=True)):
            own = {
                name: self._signal(name, *(part[image] for part in queries_keys[layer]))
                for name, layer in self.layer_of.items()
                if name in needs
            }
            visions.append(Vision(hidden_NC=hidden_NC, projected_VD=projected_VD, **own, **shared))
        return visions

    def _signal(self, name: str, q_NC: Tensor, k_NC: Tensor) -> Tensor:
        """One signal of one image, by its layer's queries and keys."""
        if name in ("q_NC", "k_NC"):
            return q_NC if name == "q_NC" else k_NC
        if name == "keys_HNd":
            return self._by_head(k_NC)
        if name == "attention_HV":
            return self._attention(q_NC[:1], k_NC)[:, 0, 1:]
        return self._attention(q_NC, k_NC).mean((0, 1))[1:]

    def _attention(self, q_MC: Tensor, k_NC: Tensor) -> Tensor:
        """softmax((q·k)/√d) over all N keys, [H, M, N], in float32 at least."""
        q_HMd, k_HNd = self._by_head(q_MC), self._by_head(k_NC)
        if q_HMd.dtype != torch.float64:
            q_HMd, k_HNd = q_HMd.float(), k_HNd.float()
        return (q_HMd @ k_HNd.mT * q_HMd.shape[-1] ** -0.5).softmax(-1)

    def _by_head(self, x_NC: Tensor) -> Tensor:
        return x_NC.unflatten(-1, (self.tower.config.num_attention_heads, -1)).transpose(0, 1)
