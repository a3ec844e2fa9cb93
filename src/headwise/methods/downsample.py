"""Control: the image itself made smaller before the vision tower."""

from __future__ import annotations

from math import isqrt
from typing import Any

from headwise.errors import ConfigError
from headwise.methods.contract import BeforeMethod, Options, Reduced, Vision


class Downsample(BeforeMethod):
    """The padded square image resized (bicubic) to `image_side` pixels, position embeddings interpolated.

    The tower then gives s × s patches, s = floor(√T), of which all stay: 192/128/64 are 169/121/64 tokens, and the
    tower is cheaper too. The signals for `reduce` are those of the small image.
    """

    name = "downsample"
    title = "Smaller image"
    source = "control after VTC-Bench (ACL 2026; Chenfei-Liao/VTC-Bench 983e443), for towers of fixed size"
    role = "control"
    needs = ("projected_VD",)

    def rows(self, tokens: int, visual: int, options: Any) -> int:
        """Rows of the largest square grid of at most T tokens."""
        return isqrt(tokens) ** 2

    def image_side(self, tokens: int, patch: int) -> int:
        """Side in pixels at which the tower makes that grid."""
        return patch * isqrt(tokens)

    def reduce(self, vision: Vision, tokens: int, options: Any) -> Reduced:
        """Check the signals against the rows that the smaller image gives, then choose."""
        made = self.rows(tokens, tokens, options) if type(tokens) is int and tokens > 0 else tokens
        return super().reduce(vision, made, options)

    def choose(self, vision: Vision, tokens: int, options: Options) -> Reduced:
        """All patches of the smaller image. ConfigError where the image was seen at another size."""
        import torch

        visual = len(vision.projected_VD)
        if visual != tokens:
            raise ConfigError(f"downsample: {visual} patches are not those of the smaller image, which has {tokens}")
        return Reduced(torch.arange(visual, device=vision.projected_VD.device))
