"""What the engine asks of a checkpoint's decoder: its own layers, driven one at a time.

The layers, norms and heads are those of transformers; nothing is copied or patched. A layer gets a
stand-in for its cache that joins given keys and values before the new ones and hands the new ones out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from headwise.errors import ModelError

# Keys and values of one layer, each [B, key-value heads, S, head size]; keys carry their rotary position.
KV = tuple[Tensor, Tensor]

# Text `model_type`s whose layers were checked against transformers' own forward. A decoder that merely looks like one
# of them may place or scale something otherwise and answer wrongly without an error, so nothing else is driven.
DRIVEN = ("llama", "mistral", "qwen2", "qwen3", "qwen2_5_vl_text", "qwen3_vl_text")
# Decoders whose rotary embedding takes three positions per token: time, row, column.
THREE_AXES = ("qwen2_5_vl_text", "qwen3_vl_text")


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

    `DRIVEN` lists the decoders that it drives: rotary attention with q/k/v projections, with or without biases,
    grouped key-value heads, and norms of queries and keys. ModelError for others, and for sliding windows.

    Args:
        model: a causal or image-text model of transformers, loaded.
        more_eos: end-of-sequence ids beside those that the model's configurations name, such as the tokenizer's.
    """

    def __init__(self, model: Any, more_eos: Iterable[int] = ()) -> None:
        """Take the layers, norm, head and embeddings of a loaded transformers model.

        Raises:
            ModelError: a text configuration that the engine cannot drive exactly.
        """
        body = getattr(model, "model", model)
        body = getattr(body, "language_model", None) or getattr(body, "text_model", body)
        check_text_config(body.config, type(model).__name__)
        self.layers = list(body.layers)
        self._body = body
        self._head = model.get_output_embeddings()
        self.home = home(model)
        self.attention_heads: int = body.config.num_attention_heads
        self.eos = _eos_tokens(model, more_eos)
        self.axes = 3 if body.config.model_type in THREE_AXES else 1
        self.causal_without_mask = getattr(body.config, "_attn_implementation", None) == "sdpa"

    @property
    def weight(self) -> Tensor:
        """The language-model head's matrix, [vocabulary, D]."""
        return self._head.weight

    def embed(self, tokens: Tensor) -> Tensor:
        """Input embeddings of token ids on the model's first device: [..., D]."""
        return self._body.get_input_embeddings()(tokens).to(self.home)

    def rope(self, positions: Tensor) -> KV:
        """Rotary cosines and sines at these positions, each [B, S, head size].

        `positions` is [B, S], one number per token (on three axes thrice the same, as text has it), or [B, S, 3].
        """
        if self.axes == 3:
            positions = positions.permute(2, 0, 1) if positions.dim() == 3 else positions.expand(3, -1, -1)
        return _at(self._body.rotary_emb(self._empty(1), positions), self.home)

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
        normed_BSD = layer.input_layernorm(to_device_of(hidden_BSD, layer.input_layernorm))
        attention = layer.self_attn
        keys = self._split(attention.k_proj(normed_BSD), index, getattr(attention, "k_norm", None)).to(self.home)
        values = self._split(attention.v_proj(normed_BSD), index).to(self.home)
        return apply_rotary_pos_emb(keys, keys, *rope)[0], values

    def attention_row(self, index: int, hidden_BD: Tensor, rope: KV, keys: Tensor, visible_BS: Tensor) -> Tensor:
        """Attention of one position per row over `keys`, after the softmax: [B, H, S]; see `attention_rows`."""
        return self.attention_rows(index, hidden_BD.unsqueeze(1), rope, keys, visible_BS.unsqueeze(1)).squeeze(2)

    def attention_rows(self, index: int, hidden_BQD: Tensor, rope: KV, keys: Tensor, visible_BQS: Tensor) -> Tensor:
        """Attention of some positions over `keys`, after the softmax: [B, H, Q, S].

        `hidden_BQD` is the positions' input to layer `index`, `keys` [B, key-value heads, S, head size].
        The softmax runs in float32. A float16 model's rows are cast to float16, as transformers' own attention does
        and the published study ranked; others stay in float32: bfloat16's 8 bits would tie most of a long row.
        """
        layer = self.layers[index]
        attention = layer.self_attn
        normed_BQD = layer.input_layernorm(to_device_of(hidden_BQD, layer.input_layernorm))
        query = self._split(attention.q_proj(normed_BQD), index, getattr(attention, "q_norm", None)).to(self.home)
        query = apply_rotary_pos_emb(query, query, *rope)[0]
        keys = keys.repeat_interleave(query.shape[1] // keys.shape[1], dim=1)
        scores = (query @ keys.transpose(-1, -2)) * attention.scaling
        scores = scores.masked_fill(~visible_BQS.unsqueeze(1), torch.finfo(scores.dtype).min)
        rows = torch.softmax(scores, dim=-1, dtype=torch.float32)
        return rows if scores.dtype == torch.bfloat16 else rows.to(scores.dtype)

    def final_norm(self, hidden: Tensor) -> Tensor:
        """The norm in front of the output head, applied to any layer's output."""
        return self._body.norm(to_device_of(hidden, self._body.norm)).to(self.home)

    @property
    def rope_frequencies(self) -> Tensor:
        """Rotary frequencies, one per pair of dimensions: [head size / 2]."""
        return self._body.rotary_emb.inv_freq.to(self.home)

    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token logits of the last layer's output, after the final norm: [..., vocabulary]."""
        return self._head(self._body.norm(hidden)).to(self.home)

    def empty(self, batch: int) -> KV:
        """Keys and values of no position at all."""
        attention = self.layers[0].self_attn
        heads = attention.k_proj.out_features // attention.head_dim
        nothing = self._empty(batch, heads, 0, attention.head_dim)
        return nothing, nothing

    def _empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=self.weight.dtype, device=self.home)

    def _split(self, projected_BSE: Tensor, index: int, norm: Any = None) -> Tensor:
        """A projection cut into heads, [B, heads, S, head size], each head normalised where the decoder does so."""
        size = self.layers[index].self_attn.head_dim
        heads = projected_BSE.unflatten(-1, (-1, size))
        return (heads if norm is None else norm(heads)).transpose(1, 2)


def check_text_config(config: Any, name: str) -> None:
    """ModelError, naming the checkpoint, where a decoder of this configuration is not driven. Reads no weights."""
    kind = getattr(config, "model_type", "unknown")
    if kind not in DRIVEN:
        raise ModelError(f"model: {name} has a {kind!r} decoder; headwise drives {', '.join(DRIVEN)}")
    window = kind == "mistral" and getattr(config, "sliding_window", None) is not None
    if window or "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        raise ModelError(
            f"model: {name} attends in sliding windows, which count places and would widen as tokens go; headwise "
            "drives decoders with full attention in every layer"
        )


def home(model: Any) -> torch.device:
    """The device of the model's first weights that are on one (offloaded weights are on none)."""
    devices = (weights.device for weights in model.parameters() if weights.device.type != "meta")
    return next(devices, torch.device("cpu"))


def _at(pair: KV, device: torch.device) -> KV:
    return pair[0].to(device), pair[1].to(device)


def to_device_of(hidden: Tensor, norm: Any) -> Tensor:
    """The tensor on the device of the norm's weights; offloaded ones come to the tensor by themselves."""
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


def _eos_tokens(model: Any, more: Iterable[int]) -> frozenset[int]:
    """All ids that end an answer: a checkpoint may name its turn's end in one place and its text's end in another."""
    found = set(more)
    for holder in (getattr(model, "generation_config", None), model.config, model.config.get_text_config()):
        eos = getattr(holder, "eos_token_id", None)
        if eos is not None:
            found |= {eos} if isinstance(eos, int) else set(eos)
    if not found:
        raise ModelError("model: the checkpoint names no end-of-sequence token")
    return frozenset(found)
