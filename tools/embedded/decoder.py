"""Training forward pass of the Llama decoder: many questions per image, with the image prefix shared.

Layers and weights are transformers' own; only the order of computation differs. Every question attends to
the image and to itself, never to another question, so the logits equal those of separate prompts.

Legend: B scenes, N context tokens (prefix and visual), M questions per scene, T text tokens, D width,
H heads, d head width, P guided positions, Q quoted letters.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

Pair = tuple[Tensor, Tensor]
Watch = dict[int, Tensor]  # layer, from 1: positions (P, 3) whose attention is wanted


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
    """`weight_BN`: log of the number of image cells a context token represents (-inf: padding)."""

    labels_BNF: Tensor
    positions_BN: Tensor  # positions of the visual tokens
    start_B: Tensor  # position of the first text token
    weight_BN: Tensor
    ids_BMT: Tensor
    targets_BMT: Tensor  # next token, -100: not a target
    guided_P3: Tensor  # (scene, question, position) whose attention is guided
    look_GPN: Tensor  # attention targets, one set per group of heads (a row of False: not guided)
    quoted_Q3: Tensor  # (scene, question, position) of the letters of quoted words
    match_QN: Tensor  # the cells of any sign that show the letter, or the start of the prompt
    heard_Q: Tensor  # the token of yes or no: whether the sign shows the letter at that place


def drive(
    model: LlamaForCausalLM, context: Pair, weight_BN: Tensor, text: Pair, watch: Watch
) -> tuple[Tensor, dict[int, Tensor]]:
    """Logits (B, M, T, vocabulary), and for each watched layer (from 1) attention (P, H, N) of its positions.

    `context`: (B, N, D) vectors and (B, N) positions. `text`: (B, M, T, D) vectors and (B,) the first one's position.
    """
    hidden_BND, position_BN = context
    text_BMTD, start_B = text
    B, M, T, _ = text_BMTD.shape
    text_position_BT = start_B[:, None] + torch.arange(T)
    rotary = model.model.rotary_emb
    context_rope = rotary(hidden_BND, position_BN)
    hidden = text_BMTD.reshape(B * M, T, -1)
    text_rope = rotary(hidden, text_position_BT.repeat_interleave(M, 0))
    seen = _causal(hidden_BND.shape[1]) + weight_BN[:, None, None]
    before = weight_BN[:, None].expand(B, T, -1)
    text_seen = torch.cat([before, _causal(T).expand(B, T, T)], -1).repeat_interleave(M, 0)[:, None]
    watched = {}
    for number, layer in enumerate(model.model.layers, 1):
        query, key, value = _qkv(layer, hidden_BND, context_rope)
        text_query, text_key, text_value = _qkv(layer, hidden, text_rope)
        keys = torch.cat([key.repeat_interleave(M, 0), text_key], 2)
        values = torch.cat([value.repeat_interleave(M, 0), text_value], 2)
        out = scaled_dot_product_attention(text_query, keys, values, attn_mask=text_seen)
        if number in watch:
            row_P, at_P = watch[number][:, 0] * M + watch[number][:, 1], watch[number][:, 2]
            guided_query = text_query[row_P, :, at_P, None] * text_query.shape[-1] ** -0.5
            scores = (guided_query @ keys[row_P].mT)[:, :, 0] + text_seen[row_P, :, at_P]
            watched[number] = scores.softmax(-1)[..., : key.shape[2]]
        hidden = _finish(layer, hidden, out)
        if number < len(model.model.layers):
            own = scaled_dot_product_attention(query, key, value, attn_mask=seen)
            hidden_BND = _finish(layer, hidden_BND, own)
    logits: Tensor = model.lm_head(model.model.norm(hidden))
    return logits.view(B, M, T, -1), watched


def _causal(size: int) -> Tensor:
    return torch.full((size, size), float("-inf")).triu(1)


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


def _finish(layer: Any, hidden: Tensor, attended: Tensor) -> Tensor:
    flat = attended.transpose(1, 2).reshape(*hidden.shape[:2], -1)
    hidden = hidden + layer.self_attn.o_proj(flat)
    result: Tensor = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    return result
