"""Families of models, and what drives a checkpoint: decoder, vision towers, text towers.

A new family is one file here, or an entry point `headwise.models` of another package. What a family is stands in
contract.py. Names are known without importing torch.
"""

from __future__ import annotations

from typing import Any

from headwise.errors import ConfigError, ModelError
from headwise.models.contract import Family
from headwise.study.registry import Registry

__all__ = ["FAMILIES", "REFUSED", "Family", "family_of"]

# Modules of this package that hold no family, and import torch.
APART = ("attention", "checkpoint", "clip_text", "decoder", "tower", "vision")

# Every family by name.
FAMILIES: Registry[Family] = Registry("model family", Family, __name__, "headwise.models", APART)  # type: ignore[type-abstract]

# Families that people ask for and that are not driven, with the reason.
REFUSED = {
    "gemma3": "its image tokens see each other both ways and its layers have two masks and two rotary embeddings, "
    "which the engine does not do yet",
}


def family_of(config: Any, name: str = "") -> Family:
    """The family of a checkpoint's configuration.

    Raises:
        ModelError: none takes its `model_type`; the message says which there are.
        ConfigError: two families take one `model_type`.
    """
    kind = getattr(config, "model_type", "unknown")
    taken: dict[str, Family] = {}
    for family in FAMILIES.values():
        for model_type in family.model_types:
            if taken.setdefault(model_type, family) is not family:
                raise ConfigError(
                    f"model family: {taken[model_type].name} and {family.name} both take {model_type!r} checkpoints"
                )
    if kind in taken:
        return taken[kind]
    reason = f" ({REFUSED[kind]})" if kind in REFUSED else ""
    raise ModelError(
        f"model: {name or 'this'} is a {kind!r} checkpoint, which headwise does not drive{reason}; it drives "
        f"{', '.join(sorted(taken))}"
    )
