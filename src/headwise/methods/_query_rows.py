"""Which query rows a head strategy reads at the pruning layer: ablation B of the study that headwise grew from.

Source: EasonAI-5589/LLaVA-FinePruner-Head 954fc48 (the file exists there, wired nowhere). Axes: H heads, Q text
positions behind the image, V visual tokens, A positions before the image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from headwise.methods.stages import View


def query_rows(view: View, query: str) -> Tensor:
    """The attention [H, V] that heads and tokens are ranked by: one row, or a mean of several."""
    text = view.text
    if query == "adaptive_by_length":
        query, count = _adaptive(text)
    else:
        count = {"last_n_tokens": 3}.get(query, 5)
    if query == "last_token":
        return view.last_HV
    if query == "text_tokens_only":
        return view.text_HQV.mean(1)
    if query == "system_and_text":  # rows before the image see no visual token: they are zero, and counted
        return view.text_HQV.sum(1) / (view.system + text)
    if query == "attention_weighted":
        return _weighted(view)
    if query == "max_attention_token":
        return view.text_HQV[:, view.text_HQV.sum((0, 2)).argmax()]
    rows_HRV = _last_rows(view, count)
    if query == "weighted_recent":
        weights_R = torch.linspace(0.5, 1, rows_HRV.shape[1], device=rows_HRV.device, dtype=rows_HRV.dtype)
        return (rows_HRV * (weights_R / weights_R.sum())[:, None]).sum(1)
    return rows_HRV.mean(1)


def _adaptive(text: int) -> tuple[str, int]:
    """Short questions: their last rows; long ones: rows weighted by what they see of the image."""
    if text == 0:
        return "last_token", 1
    if text <= 3:
        return "text_tokens_only", text
    return ("weighted_recent", min(5, text)) if text <= 10 else ("attention_weighted", 0)


def _last_rows(view: View, count: int) -> Tensor:
    """The last `count` rows of the prompt; where the question is shorter they reach into the image."""
    text_HQV = view.text_HQV
    if count <= text_HQV.shape[1]:
        return text_HQV[:, -count:]
    return torch.cat([view.visual_HVV[:, text_HQV.shape[1] - count :], text_HQV], dim=1)


def _weighted(view: View) -> Tensor:
    """Rows weighted by the softmax of their attention to the image; those before the image see none: weight exp(0)."""
    text_HQV = view.text_HQV
    seen_Q = text_HQV.sum((0, 2))
    weights = torch.softmax(torch.cat([seen_Q.new_zeros(view.system), seen_Q]), dim=0)[view.system :]
    return (text_HQV * weights[:, None]).sum(1)
