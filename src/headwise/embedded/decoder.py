"""The Llama decoder, driven for training: many questions behind one image, the image computed once.

The layers and weights are transformers' own; only the order of computing differs. Every question sees
the image and its own words, never another question, so the logits are those of one prompt at a time.

Legend: B scenes, N context tokens (prefix and visual), M questions a scene, T text tokens, D width,
H heads, d head width, P supervised positions.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

Pair = tuple[Tensor, Tensor]


def decoder_config(vocabulary: int, pad: int = 0, bos: int = 1, eos: int = 2) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=8,
        num_attention_heads=32,
        num_key_value_heads=32,
        head_dim=8,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},  # content matching over 600 positions
        pad_token_id=pad,
        bos_token_id=bos,
        eos_token_id=eos,
        tie_word_embeddings=False,
    )


@dataclass
class Batch:
    """`weight_BN`: log of how many image cells a context token stands for (-inf: padding)."""

    labels_BNF: Tensor | None  # symbolic cells, or
    features_BND: Tensor | None  # tower features of the same cells
    positions_BN: Tensor  # positions of the visual tokens
    weight_BN: Tensor
    ids_BMT: Tensor
    targets_BMT: Tensor  # next token, -100 where not asked
    spots_P3: Tensor  # (scene, question, position) whose attention is guided
    look_GPN: Tensor  # cells to look at, one set for each group of heads (False in a whole row: no wish)
    last_P: Tensor  # True where the spot is the last prompt token


def drive(
    model: LlamaForCausalLM, context: Pair, weight_BN: Tensor, text_BMTD: Tensor, spots_P3: Tensor, watch: set[int]
) -> tuple[Tensor, dict[int, Tensor]]:
    """Logits (B, M, T, vocabulary), and for each watched layer (from 1) attention (P, H, N) of the spots."""
    hidden_BND, position_BN = context
    B, M, T, _ = text_BMTD.shape
    text_position = position_BN.max() + 1 + torch.arange(T)
    rotary = model.model.rotary_emb
    context_rope = rotary(hidden_BND, position_BN)
    text_rope = rotary(text_BMTD, text_position.repeat(M)[None].expand(B, -1))
    text = text_BMTD.reshape(B, M * T, -1)
    seen = torch.full((hidden_BND.shape[1],) * 2, float("-inf")).triu(1) + weight_BN[:, None, None]
    watched = {}
    for number, layer in enumerate(model.model.layers, 1):
        context_qkv = _qkv(layer, hidden_BND, context_rope)
        out, attention = _text_attention(layer, text, text_rope, context_qkv, weight_BN, (B, M, T))
        if number in watch:
            watched[number] = attention[spots_P3[:, 0], :, spots_P3[:, 1] * T + spots_P3[:, 2]]
        text = _finish(layer, text, out)
        if number < len(model.model.layers):
            own = nn.functional.scaled_dot_product_attention(*context_qkv, attn_mask=seen)
            hidden_BND = _finish(layer, hidden_BND, own)
    logits: Tensor = model.lm_head(model.model.norm(text))
    return logits.view(B, M, T, -1), watched


def _qkv(layer: Any, hidden: Tensor, rope: Pair) -> tuple[Tensor, Tensor, Tensor]:
    """(B, H, tokens, d) each, rotated."""
    attention = layer.self_attn
    normed = layer.input_layernorm(hidden)
    shape = (*normed.shape[:2], -1, attention.head_dim)
    query, key, value = (
        projection(normed).view(shape).transpose(1, 2)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    query, key = apply_rotary_pos_emb(query, key, *rope)
    return query, key, value


def _text_attention(
    layer: Any, text: Tensor, rope: Pair, context: tuple[Tensor, Tensor, Tensor], weight_BN: Tensor, sizes: Any
) -> Pair:
    """Text over (image, own words): output (B, H, M*T, d) and its attention on the context (B, H, M*T, N)."""
    B, M, T = sizes
    query, key, value = _qkv(layer, text, rope)
    scale = query.shape[-1] ** -0.5
    far = (query * scale) @ context[1].transpose(-1, -2) + weight_BN[:, None, None]
    split = (*query.shape[:2], M, T, -1)
    near = (query * scale).view(split) @ key.view(split).transpose(-1, -2)
    near = near + torch.full((T, T), float("-inf")).triu(1)
    both = torch.cat([far, near.view(*far.shape[:3], T)], -1).softmax(-1)
    N = far.shape[-1]
    attention = both[..., :N]
    own = both[..., N:].view(split) @ value.view(split)
    return attention @ context[2] + own.reshape(query.shape), attention


def _finish(layer: Any, hidden: Tensor, attended: Tensor) -> Tensor:
    flat = attended.transpose(1, 2).reshape(*hidden.shape[:2], -1)
    hidden = hidden + layer.self_attn.o_proj(flat)
    result: Tensor = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    return result
