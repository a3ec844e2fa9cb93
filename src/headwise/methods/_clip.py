"""What CDPruner and TRIM share: patches and question in CLIP's joint space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headwise.errors import ConfigError
from headwise.methods.contract import Options, Vision

if TYPE_CHECKING:
    from torch import Tensor

CLIP_SIGNALS = ("post_ln_weight", "post_ln_bias", "visual_projection_EC", "text_ME")
INSTRUCTION = "\nAnswer the question using a single word or phrase."
# CLIP's layer_norm_eps.
EPSILON = 1e-5


@dataclass(frozen=True, kw_only=True)
class ClipOptions(Options):
    """The full CLIP whose text tower and projections are used: `clip`, a folder, a hub name, or `embedded`.

    They are not in a LLaVA checkpoint; the embedded model has them beside it, and a study of it reads those unasked.
    `reduce` gets what was computed as signals and does not read it.
    """

    clip: str | None = None

    def __post_init__(self) -> None:
        if self.clip is not None and (not isinstance(self.clip, str) or not self.clip.strip()):
            raise ConfigError(f"clip: {self.clip!r} is not a folder or hub name of a CLIP checkpoint, nor `embedded`")


def patch_embeddings(vision: Vision) -> Tensor:
    """visual_projection(post_layernorm(x)) of each patch, [V, E], not normalised."""
    from torch.nn.functional import layer_norm

    width = vision.hidden_NC.shape[1:]
    normed_VC = layer_norm(vision.hidden_NC[1:], width, vision.post_ln_weight, vision.post_ln_bias, EPSILON)
    return normed_VC @ vision.visual_projection_EC.T
