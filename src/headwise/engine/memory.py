"""How many positions run together: from free memory, halved when that was too many; and what crosses to the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from headwise.errors import ModelError
from headwise.models.decoder import Decoder

Work = TypeVar("Work")
Result = TypeVar("Result")

# On a CPU larger stacks fall out of the cache and gain nothing (bench/grid.py).
CPU_POSITIONS = 4096
# Keys and values that may wait on a CPU (`held_tokens`).
CPU_HELD_BYTES = 256 * 2**20


def stack_tokens(decoder: Decoder) -> int:
    """Positions one stack may hold, so that its keys, values and activations fit in a quarter of the free memory."""
    weight = decoder.weight
    if weight.device.type != "cuda":
        return CPU_POSITIONS
    free, _ = torch.cuda.mem_get_info(weight.device)
    activations = 16 * weight.shape[1] * weight.element_size()
    return max(1024, int(free // 4 // (_cache_bytes(decoder) + activations)))


def held_tokens(decoder: Decoder) -> int:
    """Positions whose keys and values may wait for the host to read which of their answers go on."""
    if decoder.weight.device.type == "cuda":
        return 2 * stack_tokens(decoder)
    return max(CPU_POSITIONS, CPU_HELD_BYTES // _cache_bytes(decoder))


def _cache_bytes(decoder: Decoder) -> int:
    """Bytes of one position's keys and values in all layers."""
    return 2 * decoder.layers[0].self_attn.k_proj.out_features * len(decoder.layers) * decoder.weight.element_size()


def on_device(values: Sequence[Any], device: torch.device) -> Tensor:
    """Whole numbers as a tensor there. A GPU gets them without being waited for."""
    made = torch.tensor(values, dtype=torch.long)
    return made.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else made.to(device)


def to_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of one dtype on the host, read in one copy, which waits for the device once."""
    if not tensors or tensors[0].device.type == "cpu":
        return list(tensors)
    flat = torch.cat([each.flatten() for each in tensors]).cpu()
    parts = flat.split([each.numel() for each in tensors])
    return [part.view(each.shape) for part, each in zip(parts, tensors, strict=True)]


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
