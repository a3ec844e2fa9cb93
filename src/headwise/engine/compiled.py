"""A decoder's norms and MLPs compiled by torch, each as few kernels (the setting `compile`).

Numbers may be rounded otherwise, so such answers are kept apart from others.
"""

from __future__ import annotations

import torch

from headwise.errors import ConfigError
from headwise.models.decoder import Decoder


def compile_layers(decoder: Decoder) -> None:
    """Compile each layer's norms and MLP in place, at their first use. ConfigError where torch cannot."""
    # Not the whole layer: its cache is an object of ours of several kinds, and each kind, layer and length of it would
    # be compiled anew. Norms and MLPs take tensors alone, so that one piece of code each serves all layers and lengths.
    check_compiler(decoder.home.type)
    for layer in decoder.layers:
        for part in (layer.input_layernorm, layer.post_attention_layernorm, layer.mlp):
            part.compile(dynamic=True)


def check_compiler(kind: str) -> None:
    """ConfigError where torch cannot compile for `kind` (cpu or cuda), found by compiling one operation."""
    try:
        torch.compile(torch.nn.functional.silu)(torch.ones(8, device=kind))
    except Exception as error:  # torch raises what each of its parts does: no compiler, no headers, no Triton
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"compile: torch cannot compile for {kind} here ({reason})") from error
