"""How many positions run together: from free memory, halved when that was too many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from headwise.errors import ModelError
from headwise.models.decoder import Decoder

Work = TypeVar("Work")
Result = TypeVar("Result")

# On a CPU larger stacks fall out of the cache and gain nothing (bench/grid.py).
CPU_POSITIONS = 4096


def stack_tokens(decoder: Decoder) -> int:
    """Positions one stack may hold, so that its keys, values and activations fit in half the free memory."""
    weight = decoder.weight
    if weight.device.type != "cuda":
        return CPU_POSITIONS
    free, _ = torch.cuda.mem_get_info(weight.device)
    attention = decoder.layers[0].self_attn
    kv = 2 * attention.k_proj.out_features * len(decoder.layers)
    activations = 16 * weight.shape[1]
    return max(1024, int(free // 2 // ((kv + activations) * weight.element_size())))


def with_halving(run: Callable[[Sequence[Work]], list[Result]], work: Sequence[Work]) -> list[Result]:
    """`run(work)`, in halves where memory does not suffice; ModelError when one piece alone is too much."""
    try:
        return run(work)
    except torch.OutOfMemoryError as error:
        if len(work) == 1:
            raise ModelError(
                "device: out of memory for a single branch; use a smaller dtype or another device"
            ) from error
        torch.cuda.empty_cache()
    middle = len(work) // 2
    return with_halving(run, work[:middle]) + with_halving(run, work[middle:])
