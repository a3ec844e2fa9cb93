"""What the decoder is trained by: answers, where attention looks, and the letters of quoted words.

Legend as in decoder.py; G groups of heads.
"""

import torch.nn.functional as F
from torch import Tensor

from tools.embedded.batches import GROUPS
from tools.embedded.decoder import Batch, Watch

READ_LAYER = 4  # the layer whose attention is guided to what a question names
MATCH_LAYER = 1  # the layer in which a quoted letter is to find itself on the signs: both are still plain there
HEADS_PER_GROUP = 8
MATCH_WEIGHT = 1.5  # times the weight of looking


def answer_loss(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 2), targets.flatten(), ignore_index=-100)


def look_loss(attention_PHN: Tensor, look_GPN: Tensor) -> Tensor:
    """-log of the attention that falls on the target cells, per group of heads.

    The last group spreads evenly over its cells and the start of the prompt: the weight left on the
    start then encodes the count.
    """
    total = attention_PHN.new_zeros(())
    for g in range(GROUPS):
        has_target = look_GPN[g].any(-1)
        if not has_target.any():
            continue
        heads = attention_PHN[has_target, g * HEADS_PER_GROUP : (g + 1) * HEADS_PER_GROUP]
        mask = look_GPN[g][has_target][:, None].float()
        if g == GROUPS - 1:
            loss = -(heads.clamp_min(1e-6).log() * mask).sum(-1) / mask.sum(-1)
        else:
            loss = -(heads * mask).sum(-1).clamp_min(1e-6).log()
        total = total + loss.mean()
    return total


def guided_layers(batch: Batch) -> Watch:
    """The positions whose attention `guide_loss` reads."""
    return {MATCH_LAYER: batch.quoted_Q3, READ_LAYER: batch.guided_P3}


def match_loss(attention_QHN: Tensor, match_QN: Tensor) -> Tensor:
    """-log of the attention of the last group's heads that falls on the cells showing the quoted letter (Q > 0)."""
    heads = attention_QHN[:, -HEADS_PER_GROUP:]
    return -(heads * match_QN[:, None]).sum(-1).clamp_min(1e-6).log().mean()


def guide_loss(logits: Tensor, watched: dict[int, Tensor], batch: Batch, guide: bool = True) -> Tensor:
    """All that guides: where to look, where a quoted letter is to find itself, and what it is to say of that.

    Without `guide` layer 4 is free: nothing says where to look.
    """
    look = look_loss(watched[READ_LAYER], batch.look_GPN) if guide else logits.new_zeros(())
    if not len(batch.quoted_Q3):
        return look
    match = match_loss(watched[MATCH_LAYER], batch.match_QN)
    said = logits[tuple(batch.quoted_Q3.T)]
    return look + MATCH_WEIGHT * (match + F.cross_entropy(said, batch.heard_Q))


def accuracy_by_kind(logits: Tensor, batch: Batch, kinds: list[list[str]]) -> dict[str, list[float]]:
    """Per kind, 1 for each question with all answer tokens right (teacher forcing, greedy), else 0."""
    asked = batch.targets_BMT >= 0
    right = ((logits.argmax(-1) == batch.targets_BMT) | ~asked).all(-1)
    found: dict[str, list[float]] = {}
    for b, row in enumerate(kinds):
        for m, kind in enumerate(row):
            found.setdefault(kind, []).append(float(right[b, m]))
    return found
