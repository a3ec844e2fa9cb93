"""CLIP's text tower: a question as the embeddings that CDPruner and TRIM compare patches with.

A LLaVA checkpoint holds CLIP's vision tower, but neither its text tower nor its projections. They come from the full
CLIP that the option `clip` names, for LLaVA-1.5 the one that it was built from (openai/clip-vit-large-patch14-336).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from headwise.errors import ModelError
from headwise.methods.stages import require_clip as required_clip
from headwise.models.vision import clip_source

PADDING = 0

__all__ = ["ClipText", "required_clip"]


class ClipText:
    """Text tower, text projection and visual projection of a full CLIP checkpoint; its vision tower is dropped.

    Args:
        clip: a folder, a hub name, or `embedded`.
        width: C of the vision tower in use; the visual projection must read it.
        allow_pickle: also read checkpoints whose weights are not safetensors.

    Raises:
        ModelError: nothing there, not a CLIP, or of another width.
    """

    def __init__(self, clip: str, width: int, device: str | torch.device = "cpu", allow_pickle: bool = False) -> None:
        """Load the checkpoint `clip` in float32.

        Raises:
            ModelError: it is no full CLIP, or its vision tower's width is not `width`, that of the model's own tower.
        """
        from transformers import AutoConfig, AutoTokenizer, CLIPModel

        try:
            source = clip_source(clip)
            config = AutoConfig.from_pretrained(source, trust_remote_code=False)
            if config.model_type != "clip":
                raise ModelError(f"clip: {clip} is a {config.model_type!r} checkpoint, not a full CLIP")
            given = config.vision_config.hidden_size
            if given != width:
                raise ModelError(f"clip: {clip} has a vision tower of width {given}; the model's has {width}")
            safe = None if allow_pickle else True
            model: Any = CLIPModel.from_pretrained(source, use_safetensors=safe, dtype=torch.float32)
            self.tokenizer: Any = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"clip: cannot load {clip!r}: {' '.join(str(error).split())}") from error
        self.text_model = model.text_model.to(device).eval().requires_grad_(False)
        self.projection = model.text_projection.to(device).requires_grad_(False)
        self.visual_projection_EC: Tensor = model.visual_projection.weight.detach().to(device)
        self.length: int = config.text_config.max_position_embeddings

    def embed(self, text: str, how: Literal["clip_segments", "clip_truncated"]) -> Tensor:
        """Projected text embeddings [M, E] in float32, not normalised. See BeforeMethod.text_encoder."""
        return self.segments(text) if how == "clip_segments" else self.truncated(text)

    def segments(self, text: str) -> Tensor:
        """CDPruner: nothing is truncated; the ids are padded to a multiple of 77 and cut into M segments, [M, E].

        [BOS] stands in the first segment alone, [EOS] in the last one alone, as in the original.
        """
        ids = self.tokenizer(text, verbose=False).input_ids
        empty = -len(ids) % self.length
        shape = -1, self.length
        ids_ML = torch.tensor([*ids, *[PADDING] * empty]).view(shape)
        return self._encode(ids_ML, torch.tensor([1] * len(ids) + [0] * empty).view(shape))

    def truncated(self, text: str) -> Tensor:
        """TRIM: the ids are cut to 77, [EOS] kept; [1, E]."""
        ids = self.tokenizer(text, truncation=True, max_length=self.length).input_ids
        return self._encode(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.long))

    @torch.inference_mode()
    def _encode(self, ids_ML: Tensor, mask_ML: Tensor) -> Tensor:
        """Pooled at the highest id of each segment, which is [EOS] where there is one (OpenAI's CLIP does so)."""
        device = self.text_model.device
        states = self.text_model(input_ids=ids_ML.to(device), attention_mask=mask_ML.to(device)).last_hidden_state
        return self.projection(states[range(len(ids_ML)), ids_ML.argmax(-1)])
