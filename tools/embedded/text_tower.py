"""A small CLIP text tower beside the vision tower: captions of scenes against [CLS], phrases against patches.

Trained on patch labels alone, the vision tower has no use for its [CLS] token. Captions name what a scene shows, so
[CLS] must gather it, and a text must find the patches that show what it names.

In OpenAI's CLIP, [CLS] points towards a caption but patches point away from what names them: CDPruner and TRIM rank by
MINUS the similarity for that reason. The small towers are trained to be the same (`AWAY`), so that these methods read
here what they were written for.
"""

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import processors
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, PreTrainedTokenizerFast
from transformers.models.clip.modeling_clip import CLIPTextModel

from tools.embedded.texts import LABELS, Phrases
from tools.embedded.tokens import build_tokenizer
from tools.embedded.tower import tower_config

END = "<end>"
LENGTH = 77  # CLIP's
INVENTORY_SCALE = 10
AWAY = -1  # the sign of the similarity by which a text finds its patches


@cache
def clip_tokenizer() -> PreTrainedTokenizerFast:
    """The decoder's words, with an end of text whose id is the highest: CLIP pools there."""
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"eos_token": END})
    marks = [(name, tokenizer.convert_tokens_to_ids(name)) for name in ("<s>", END)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"<s> $A {END}", special_tokens=marks
    )
    tokenizer.padding_side, tokenizer.model_max_length = "right", LENGTH
    return tokenizer


def text_config(width: int = 96, layers: int = 2) -> CLIPTextConfig:
    tokenizer = clip_tokenizer()
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=width * 3,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        projection_dim=width,
        hidden_act="gelu",
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=tokenizer.eos_token_id,
    )


class TextTower(nn.Module):
    """Text tower, both projections and the temperatures; the vision tower stays with the patch classifier."""

    def __init__(self) -> None:
        super().__init__()
        config = text_config()
        self.text_model = CLIPTextModel(config)
        self.text_projection = nn.Linear(config.hidden_size, config.projection_dim, bias=False)
        self.visual_projection = nn.Linear(tower_config().hidden_size, config.projection_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(np.log(1 / 0.07), dtype=torch.float32))
        self.patch_scale = nn.Parameter(torch.tensor(np.log(1 / 0.07), dtype=torch.float32))
        self.inventory = nn.Linear(config.projection_dim, LABELS)  # of training alone
        nn.init.normal_(self.inventory.weight, std=0.1)
        nn.init.constant_(self.inventory.bias, -2.5)  # most are absent

    def texts(self, texts: list[str]) -> Tensor:
        """Unit embeddings [P, E]."""
        given = clip_tokenizer()(texts, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
        pooled = self.text_model(input_ids=given.input_ids, attention_mask=given.attention_mask).pooler_output
        return F.normalize(self.text_projection(pooled), dim=-1)

    def visual(self, normed: Tensor) -> Tensor:
        """Unit embeddings of rows behind the tower's last norm."""
        return F.normalize(self.visual_projection(normed), dim=-1)

    def image_loss(self, cls_BE: Tensor, text_TE: Tensor) -> Tensor:
        """CLIP's symmetric cross-entropy; the first B texts are true, the others belong to no image."""
        logits_BT = self.logit_scale.exp().clamp(max=100) * cls_BE @ text_TE.T
        right = torch.arange(len(logits_BT))
        return (F.cross_entropy(logits_BT, right) + F.cross_entropy(logits_BT[:, right].T, right)) / 2

    def inventory_loss(self, embedded_BE: Tensor, labels_BL: Tensor) -> Tensor:
        """What a [CLS] or a caption says is there, by one classifier for both: cross-entropy summed over labels.

        From contrast alone [CLS] learned the place in 50 steps and nothing more in the next 100: false captions and
        other images tell it that something differs, but not what.
        """
        logits_BL = self.inventory(INVENTORY_SCALE * embedded_BE)
        return F.binary_cross_entropy_with_logits(logits_BL, labels_BL, reduction="sum") / len(labels_BL)

    def patch_loss(self, patches_BNE: Tensor, text_PE: Tensor, phrases: Phrases) -> Tensor:
        """-log of the share that the named patches have in a softmax over the scene's patches."""
        cosine_PN = (patches_BNE[phrases.scene_P] @ text_PE[..., None])[..., 0]
        logits_PN = AWAY * self.patch_scale.exp().clamp(max=100) * cosine_PN
        named_PN = logits_PN.masked_fill(~phrases.cells_PN, float("-inf"))
        return (logits_PN.logsumexp(-1) - named_PN.logsumexp(-1)).mean()


def full_clip(vision: nn.Module, text: TextTower) -> CLIPModel:
    """The two towers as one CLIP, which transformers loads."""
    written, seen = text_config(), tower_config()
    config = CLIPConfig(
        text_config=written.to_dict(), vision_config=seen.to_dict(), projection_dim=written.projection_dim
    )
    model = CLIPModel(config)
    model.vision_model.load_state_dict(vision.state_dict())
    model.text_model.load_state_dict(text.text_model.state_dict())
    model.text_projection.load_state_dict(text.text_projection.state_dict())
    model.visual_projection.load_state_dict(text.visual_projection.state_dict())
    model.logit_scale.data.copy_(text.logit_scale.data)
    return model.eval()
