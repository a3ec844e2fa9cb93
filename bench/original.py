"""Baseline implementation of one cell: one question, one configuration, everything recomputed.

Plain transformers layers and DynamicCache, and of the engine only the strategies: the reference of
bench/grid.py for speed and for answers.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from headwise.methods.heads.ranking import Ranker
from headwise.study.cells import Cell


@torch.inference_mode()
def answer(
    model, embeds_SD: Tensor, visual: slice, cell: Cell, kept: int, steps: int, sample_id: str, eos: frozenset[int]
) -> list[int]:
    """Greedy answer of a LLaVA model to one embedded prompt [S, D] under one cell."""
    body, cache = model.model.language_model, DynamicCache()
    hidden = embeds_SD[None]
    positions = torch.arange(len(embeds_SD), device=hidden.device)[None]
    hidden = _layers(body, range(cell.layer - 1), hidden, positions, cache)
    row_HV = _attention_row(body.layers[cell.layer - 1], hidden, body.rotary_emb(hidden, positions))[None, :, visual]
    hidden = _layers(body, range(cell.layer - 1, cell.layer), hidden, positions, cache)
    if cell.strategy != "vanilla":
        kept_R = Ranker(row_HV, [sample_id]).choices(cell, kept)[0].kept_R + visual.start
        stay = torch.cat([positions[0, : visual.start], kept_R, positions[0, visual.stop :]])
        hidden, positions = hidden[:, stay], positions[:, stay]
    hidden = _layers(body, range(cell.layer, len(body.layers)), hidden, positions, cache)
    tokens = [int(model.lm_head(body.norm(hidden[:, -1])).argmax())]
    while tokens[-1] not in eos and len(tokens) < steps:
        hidden = body.get_input_embeddings()(torch.tensor([[tokens[-1]]], device=hidden.device))
        place = torch.tensor([[len(embeds_SD) + len(tokens) - 1]], device=hidden.device)
        hidden = _layers(body, range(len(body.layers)), hidden, place, cache)
        tokens.append(int(model.lm_head(body.norm(hidden[:, -1])).argmax()))
    return tokens


def _layers(body, indices: range, hidden: Tensor, positions: Tensor, cache: DynamicCache) -> Tensor:
    rope = body.rotary_emb(hidden, positions)
    for index in indices:
        # No mask: transformers' SDPA is causal over a prefill and sees the whole cache for one new token.
        hidden = body.layers[index](hidden, position_embeddings=rope, past_key_values=cache, use_cache=True)
    return hidden


def _attention_row(layer, hidden: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Attention [H, S] of the last position at this layer."""
    attention, normed = layer.self_attn, layer.input_layernorm(hidden)
    shape = (1, hidden.shape[1], -1, attention.head_dim)
    query = attention.q_proj(normed[:, -1:]).view(1, 1, -1, attention.head_dim).transpose(1, 2)
    keys = attention.k_proj(normed).view(shape).transpose(1, 2)
    query = apply_rotary_pos_emb(query, query, rope[0][:, -1:], rope[1][:, -1:])[0]
    keys = apply_rotary_pos_emb(keys, keys, *rope)[0].repeat_interleave(query.shape[1] // keys.shape[1], dim=1)
    scores = (query @ keys.transpose(-1, -2))[0, :, 0] * attention.scaling
    return torch.softmax(scores, dim=-1, dtype=torch.float32).to(scores.dtype)
