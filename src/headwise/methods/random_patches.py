"""Control: patches drawn at random before the language model."""

from __future__ import annotations

from dataclasses import dataclass

from headwise.errors import ConfigError
from headwise.methods.contract import BeforeMethod, Options, Reduced, Vision


@dataclass(frozen=True, kw_only=True)
class RandomPatchesOptions(Options):
    """`draw`: which random order of the patches is taken."""

    draw: int = 0

    def __post_init__(self) -> None:
        """ConfigError where `draw` is not a whole number in 0..2³² − 1."""
        if type(self.draw) is not int or not 0 <= self.draw < 2**32:
            raise ConfigError(f"draw: {self.draw!r} is not a whole number between 0 and {2**32 - 1}")


class RandomPatches(BeforeMethod):
    """The first T patches of one random order of all V, in image order.

    A method before the language model is told of no sample, so all images keep the same places; other draws keep
    others. A smaller T keeps a subset of a larger one's.
    """

    name = "random_patches"
    title = "Random patches"
    source = "control"
    role = "control"
    needs = ("projected_VD",)
    options_type = RandomPatchesOptions

    def choose(self, vision: Vision, tokens: int, options: RandomPatchesOptions) -> Reduced:
        """T of V places, without looking."""
        import torch

        order_V = torch.randperm(len(vision.projected_VD), generator=torch.Generator().manual_seed(options.draw))
        return Reduced(order_V[:tokens].sort().values.to(vision.projected_VD.device))
