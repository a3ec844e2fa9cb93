"""What the engine asks of a checkpoint's decoder: its own layers, driven one at a time.

The layers, norms and heads are those of transformers; nothing is copied or patched. A layer gets a
stand-in for its cache that joins given keys and values before the new ones and hands the new ones out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from headwise.errors import ModelError

KV = tuple[Tensor, Tensor]
"""Keys and values of one layer, each [B, key-value heads, S, head size]; keys carry their rotary position."""

NEEDED = ("q_proj", "k_proj", "v_proj", "scaling", "head_dim")
REFUSED = ("q_norm", "k_norm")


class _Join:
    """Stands where a layer expects its cache: `before` goes in front of the layer's new keys and values."""

    def __init__(self, before: KV | None) -> None:
        self.before = before
        self.new: KV | None = None

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> KV:
        self.new = keys, values
        return self.new if self.before is None else join(_at(self.before, keys.device), self.new)


class _Fixed:
    """A cache whose content is final: the layer's own keys and values are already in it."""

    def __init__(self, content: KV) -> None:
        self.content = content

    def update(self, keys: Tensor, *_: Any, **__: Any) -> KV:
        return _at(self.content, keys.device)


class Decoder:
    """A causal language model of transformers seen as a list of layers.

    A model may be spread over devices (accelerate's device maps): whatever goes in and comes out, keys and
    values included, is at `home`.

    Works for every decoder whose attention is plain rotary attention with q/k/v projections (Llama,
    Vicuna, Mistral, Qwen2); ModelError for others.
    """

    def __init__(self, model: Any) -> None:
        body = getattr(model, "model", model)
        body = getattr(body, "language_model", body)
        self.layers = list(body.layers)
        self._body = body
        self._head = model.get_output_embeddings()
        self.home = home(model)
        self.attention_heads: int = body.config.num_attention_heads
        self.eos = _eos_tokens(model)
        self.causal_without_mask = getattr(body.config, "_attn_implementation", None) == "sdpa"
        for name in NEEDED:
            if not hasattr(self.layers[0].self_attn, name):
                raise ModelError(f"model: {type(model).__name__} has no {name} in its attention, which headwise needs")
        if any(hasattr(self.layers[0].self_attn, name) for name in REFUSED):
            raise ModelError(f"model: {type(model).__name__} normalises queries and keys, which is not supported")

    @property
    def weight(self) -> Tensor:
        return self._head.weight

    def embed(self, tokens: Tensor) -> Tensor:
        return self._body.get_input_embeddings()(tokens).to(self.home)

    def rope(self, positions_BS: Tensor) -> KV:
        """Rotary cosines and sines at these positions, each [B, S, head size]."""
        return _at(self._body.rotary_emb(self._empty(1), positions_BS), self.home)

    def run(
        self, index: int, hidden_BSD: Tensor, rope: KV, mask: Tensor | None, before: KV | None = None
    ) -> tuple[Tensor, KV]:
        """Layer `index` over `hidden_BSD`, attending to `before` and itself as `mask` allows: output, new KV."""
        cache = _Join(before)
        hidden_BSD = self.layers[index](
            hidden_BSD, attention_mask=mask, position_embeddings=rope, past_key_values=cache, use_cache=True
        )
        assert cache.new is not None, "a layer that does not update its cache cannot be driven"
        return hidden_BSD.to(self.home), _at(cache.new, self.home)

    def run_rows(self, index: int, rows_BQD: Tensor, rope: KV, mask: Tensor, content: KV) -> Tensor:
        """Layer `index` for some positions only, whose keys and values are already part of `content`."""
        rows_BQD = self.layers[index](
            rows_BQD, attention_mask=mask, position_embeddings=rope, past_key_values=_Fixed(content), use_cache=True
        )
        return rows_BQD.to(self.home)

    def keys_values(self, index: int, hidden_BSD: Tensor, rope: KV) -> KV:
        """Keys and values layer `index` makes of its input, without running the layer."""
        layer = self.layers[index]
        normed_BSD = layer.input_layernorm(_beside(hidden_BSD, layer.input_layernorm))
        keys, values = (
            self._split(projection(normed_BSD), index).to(self.home)
            for projection in (layer.self_attn.k_proj, layer.self_attn.v_proj)
        )
        return apply_rotary_pos_emb(keys, keys, *rope)[0], values

    def attention_row(self, index: int, hidden_BD: Tensor, rope: KV, keys: Tensor, visible_BS: Tensor) -> Tensor:
        """Attention of one position per row over `keys`, after the softmax: [B, H, S]; see `attention_rows`."""
        return self.attention_rows(index, hidden_BD.unsqueeze(1), rope, keys, visible_BS.unsqueeze(1)).squeeze(2)

    def attention_rows(self, index: int, hidden_BQD: Tensor, rope: KV, keys: Tensor, visible_BQS: Tensor) -> Tensor:
        """Attention of some positions over `keys`, after the softmax: [B, H, Q, S].

        `hidden_BQD` is the positions' input to layer `index`, `keys` [B, key-value heads, S, head size].
        The softmax runs in float32 and is cast to the model's dtype, as transformers' own attention does.
        """
        layer = self.layers[index]
        attention = layer.self_attn
        normed_BQD = layer.input_layernorm(_beside(hidden_BQD, layer.input_layernorm))
        query = self._split(attention.q_proj(normed_BQD), index).to(self.home)
        query = apply_rotary_pos_emb(query, query, *rope)[0]
        keys = keys.repeat_interleave(query.shape[1] // keys.shape[1], dim=1)
        scores = (query @ keys.transpose(-1, -2)) * attention.scaling
        scores = scores.masked_fill(~visible_BQS.unsqueeze(1), torch.finfo(scores.dtype).min)
        return torch.softmax(scores, dim=-1, dtype=torch.float32).to(scores.dtype)

    def final_norm(self, hidden: Tensor) -> Tensor:
        """The norm in front of the output head, applied to any layer's output."""
        return self._body.norm(_beside(hidden, self._body.norm)).to(self.home)

    @property
    def rope_frequencies(self) -> Tensor:
        """Rotary frequencies, one per pair of dimensions: [head size / 2]."""
        return self._body.rotary_emb.inv_freq.to(self.home)

    def logits(self, hidden: Tensor) -> Tensor:
        return self._head(self._body.norm(hidden)).to(self.home)

    def empty(self, batch: int) -> KV:
        """Keys and values of no position at all."""
        attention = self.layers[0].self_attn
        heads = attention.k_proj.out_features // attention.head_dim
        nothing = self._empty(batch, heads, 0, attention.head_dim)
        return nothing, nothing

    def _empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=self.weight.dtype, device=self.home)

    def _split(self, projected_BSE: Tensor, index: int) -> Tensor:
        size = self.layers[index].self_attn.head_dim
        return projected_BSE.unflatten(-1, (-1, size)).transpose(1, 2)


def home(model: Any) -> torch.device:
    """The device of the model's first weights that are on one (offloaded weights are on none)."""
    devices = (weights.device for weights in model.parameters() if weights.device.type != "meta")
    return next(devices, torch.device("cpu"))


def _at(pair: KV, device: torch.device) -> KV:
    return pair[0].to(device), pair[1].to(device)


def _beside(hidden: Tensor, norm: Any) -> Tensor:
    """The tensor where the norm's weights are; offloaded ones come to the tensor by themselves."""
    return hidden if norm.weight.device.type == "meta" else hidden.to(norm.weight.device)


def join(before: KV, after: KV) -> KV:
    """Concatenate along positions; a batch of one in front is shared by all rows."""
    if not before[0].shape[2]:
        return after
    batch = after[0].shape[0]
    first, second = (
        torch.cat([old.expand(batch, -1, -1, -1), new], dim=2) for old, new in zip(before, after, strict=True)
    )
    return first, second


def take(kv: KV, rows: Tensor) -> KV:
    """The given rows of a batch; a batch of one stays as it is (it is shared)."""
    return kv if kv[0].shape[0] == 1 else (kv[0][rows], kv[1][rows])


def _eos_tokens(model: Any) -> frozenset[int]:
    for holder in (getattr(model, "generation_config", None), model.config, model.config.get_text_config()):
        eos = getattr(holder, "eos_token_id", None)
        if eos is not None:
            return frozenset([eos] if isinstance(eos, int) else eos)
    raise ModelError("model: the checkpoint names no end-of-sequence token")
