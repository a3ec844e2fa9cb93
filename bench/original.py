"""Baseline implementation of one cell: one question, one configuration, everything recomputed.

Plain transformers layers and DynamicCache, and of the engine only the strategies: the reference of
bench/grid.py for speed and for answers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from headwise.methods.heads.ranking import Ranker
from headwise.models.contract import Picture
from headwise.study.cells import Cell

THREE_AXES = ("qwen2_5_vl_text", "qwen3_vl_text")


@torch.inference_mode()
def answer(
    model,
    system_MD: Tensor,
    picture: Picture,
    question_QD: Tensor,
    cell: Cell,
    kept: int,
    steps: int,
    sample_id: str,
    eos: frozenset[int],
) -> list[int]:
    """Greedy answer of an image-text model to one embedded prompt under one cell."""
    body, cache = _body(model), DynamicCache()
    hidden = torch.cat([system_MD, picture.span_SD, question_QD])[None]
    positions, after = _positions(len(system_MD), picture, len(question_QD))
    places = _places(len(system_MD), picture)
    deep = [_rows(each, len(system_MD), hidden) for each in picture.deep]
    hidden = _layers(body, range(cell.layer - 1), hidden, positions, cache, deep)
    rope = _rope(body, hidden, positions)
    row_HV = _attention_row(body.layers[cell.layer - 1], hidden, rope)[None, :, places]
    hidden = _layers(body, range(cell.layer - 1, cell.layer), hidden, positions, cache, deep)
    if cell.strategy != "vanilla":
        kept_R = places[Ranker(row_HV, [sample_id]).choices(cell, kept)[0].kept_R]
        stays = torch.ones(hidden.shape[1], dtype=torch.bool, device=hidden.device)
        stays[places] = False
        stays[kept_R] = True
        hidden, positions, deep = hidden[:, stays], positions[stays], [each[:, stays] for each in deep]
    hidden = _layers(body, range(cell.layer, len(body.layers)), hidden, positions, cache, deep)
    head = model.get_output_embeddings()
    tokens = [int(head(body.norm(hidden[:, -1])).argmax())]
    while tokens[-1] not in eos and len(tokens) < steps:
        hidden = body.get_input_embeddings()(torch.tensor([[tokens[-1]]], device=hidden.device))
        place = torch.full_like(positions[:1], after + len(tokens) - 1)
        hidden = _layers(body, range(len(body.layers)), hidden, place, cache, [])
        tokens.append(int(head(body.norm(hidden[:, -1])).argmax()))
    return tokens


def _body(model):
    return getattr(model.model, "language_model", None) or model.model.text_model


def _positions(before: int, picture: Picture, behind: int) -> tuple[Tensor, int]:
    """Position ids [S] or [S, 3] of the whole prompt, and that of the first answer token."""
    device, span = picture.span_SD.device, len(picture.span_SD)
    if picture.positions_S is None:
        return torch.arange(before + span + behind, device=device), before + span + behind
    axes = picture.positions_S.shape[1]
    text = torch.arange(behind, device=device) + picture.after
    parts = [torch.arange(before, device=device)[:, None].expand(-1, axes), picture.positions_S]
    return torch.cat([*parts, text[:, None].expand(-1, axes)]), picture.after + behind


def _places(before: int, picture: Picture) -> Tensor:
    """Where the visual tokens stand in the prompt."""
    rows = picture.prunable_V
    if rows is None:
        rows = torch.arange(len(picture.span_SD), device=picture.span_SD.device)
    return rows + before


def _rows(deep_SD: Tensor, before: int, hidden: Tensor) -> Tensor:
    """What deepstack adds to each position of the prompt, [1, S, D]."""
    added = torch.zeros_like(hidden)
    added[:, before : before + len(deep_SD)] = deep_SD
    return added


def _rope(body, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    if body.config.model_type in THREE_AXES:
        return body.rotary_emb(hidden, positions.T[:, None] if positions.dim() == 2 else positions.expand(3, 1, -1))
    return body.rotary_emb(hidden, positions[None])


def _layers(body, indices: range, hidden: Tensor, positions: Tensor, cache: DynamicCache, deep) -> Tensor:
    rope = _rope(body, hidden, positions)
    for index in indices:
        # No mask: transformers' SDPA is causal over a prefill and sees the whole cache for one new token.
        hidden = body.layers[index](hidden, position_embeddings=rope, past_key_values=cache, use_cache=True)
        if index < len(deep):
            hidden = hidden + deep[index]
    return hidden


def _attention_row(layer, hidden: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Attention [H, S] of the last position at this layer."""
    attention, normed = layer.self_attn, layer.input_layernorm(hidden)
    shape = (1, hidden.shape[1], -1, attention.head_dim)
    query = attention.q_proj(normed[:, -1:]).view(1, 1, -1, attention.head_dim)
    keys = attention.k_proj(normed).view(shape)
    query, keys = (
        getattr(attention, name, nn.Identity())(states).transpose(1, 2)
        for name, states in (("q_norm", query), ("k_norm", keys))
    )
    query = apply_rotary_pos_emb(query, query, rope[0][:, -1:], rope[1][:, -1:])[0]
    keys = apply_rotary_pos_emb(keys, keys, *rope)[0].repeat_interleave(query.shape[1] // keys.shape[1], dim=1)
    scores = (query @ keys.transpose(-1, -2))[0, :, 0] * attention.scaling
    return torch.softmax(scores, dim=-1, dtype=torch.float32).to(scores.dtype)
