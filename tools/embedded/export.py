"""Tower, projector and decoder → one LLaVA checkpoint that plain transformers loads."""

from pathlib import Path

import torch
from torch import nn
from transformers import (
    CLIPImageProcessorPil,
    GenerationConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from tools.embedded.render import SIDE
from tools.embedded.text_tower import TextTower, clip_tokenizer, full_clip
from tools.embedded.tokens import build_tokenizer
from tools.embedded.tower import IMAGE_MEAN, IMAGE_STD, PatchClassifier
from tools.embedded.vocabulary import CELL, GRID


def llava_config(classifier: PatchClassifier, decoder: LlamaForCausalLM) -> LlavaConfig:
    tokenizer = build_tokenizer()
    return LlavaConfig(
        vision_config=classifier.tower.config,
        text_config=decoder.config,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=GRID**2,
        projector_hidden_act="gelu",
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )


def assemble(
    classifier: PatchClassifier, projector: nn.Module, decoder: LlamaForCausalLM
) -> LlavaForConditionalGeneration:
    model = LlavaForConditionalGeneration(llava_config(classifier, decoder))
    model.model.vision_tower.load_state_dict(classifier.tower.state_dict())
    model.model.multi_modal_projector.load_state_dict(projector.state_dict())
    model.model.language_model.load_state_dict(decoder.model.state_dict())
    model.lm_head.load_state_dict(decoder.lm_head.state_dict())
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=0, do_sample=False)
    return model.to(torch.float32).eval()


def save_clip(classifier: PatchClassifier, text: TextTower, folder: Path) -> None:
    """Both towers as a full CLIP, whose text side CDPruner and TRIM read."""
    full_clip(classifier.tower, text).save_pretrained(folder)
    clip_tokenizer().save_pretrained(folder)
    image_processor().save_pretrained(folder)


def image_processor() -> CLIPImageProcessorPil:
    side = {"height": SIDE, "width": SIDE}
    return CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size=side, image_mean=list(IMAGE_MEAN), image_std=list(IMAGE_STD)
    )


def save(model: LlavaForConditionalGeneration, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    processor = LlavaProcessor(
        image_processor=image_processor(),
        tokenizer=build_tokenizer(),
        patch_size=CELL,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # CLS, which "default" drops again
        image_token="<image>",
    )
    processor.save_pretrained(folder)
    model.save_pretrained(folder)
