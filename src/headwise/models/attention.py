"""Attention of the driven decoders: causal behind whatever stands in front of the rows, without building a mask.

transformers' own `sdpa` aligns its mask-free causal attention with the first key, so rows behind a cached prompt need
a mask there, which rules out the flash kernels. Registered through transformers' `AttentionInterface`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from torch import Tensor
from torch.nn.attention.bias import CausalBias, causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import _disable_current_modes
from transformers import AttentionInterface

# Under which transformers knows this attention.
NAME = "headwise"


def layer_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """What a layer calls in place of its own attention: output [B, P, H, d]; no attention weights.

    Where the layer expects its mask there may be an answer's cache (decoder.AnswerCache), which attends by itself.
    """
    if attention_mask is None or isinstance(attention_mask, Tensor):
        out = attend(query, key, value, attention_mask, scaling)
    else:
        out = attention_mask.attend(query, scaling)
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, layer_attention)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Attention of P rows over S ≥ P keys, [B, H, P, d]; key-value heads may be fewer than H (none is copied).

    Without a mask it is causal and aligned with the last key: row p sees keys 0 .. S - P + p.
    """
    if mask is not None:
        return _masked(query, key, value, mask, scale)
    rows, keys = query.shape[2], key.shape[2]
    grouped = query.shape[1] != key.shape[1]
    if rows == 1 or rows == keys:
        return scaled_dot_product_attention(query, key, value, is_causal=rows > 1, scale=scale, enable_gqa=grouped)
    # A description of the mask: CUDA's kernels take it as such, a CPU's has it drawn in the kernel's own call.
    bias = _lower_right(rows, keys)
    return scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scale, enable_gqa=grouped)


@lru_cache(maxsize=1024)
def _lower_right(rows: int, keys: int) -> CausalBias:
    """Made outside of modes that watch operations (counters of FLOPs or memory): they do not let it be made."""
    with _disable_current_modes():
        return causal_lower_right(rows, keys)


def _masked(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> Tensor:
    """With a mask [B or 1, 1, P, S]: rows of the query heads that share a key head are stacked.

    Kernels that take a mask want as many query heads as key heads; so the sharing heads' rows become more rows.
    """
    shared = query.shape[1] // key.shape[1]
    if shared == 1:
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    stacked = query.unflatten(1, (-1, shared)).flatten(2, 3)
    out = scaled_dot_product_attention(stacked, key, value, attn_mask=mask.repeat(1, 1, shared, 1), scale=scale)
    return out.unflatten(2, (shared, -1)).flatten(1, 2)


def scores(query_BHQd: Tensor, keys: Tensor, scale: float) -> Tensor:
    """Products of queries and keys [B, key-value heads, S, d], scaled, before the softmax: [B, H, Q, S]."""
    grouped = query_BHQd.unflatten(1, (keys.shape[1], -1))
    return (grouped @ keys.transpose(-1, -2).unsqueeze(2)).flatten(1, 2) * scale
