"""A checkpoint of random weights of every family, with tokenizer and image processor, small enough to run in a second.

The weights are those of the golden files; the processors are transformers' own (backend `pil`), set to tiny tiles.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from families_golden import FAMILIES, GOLDEN
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

__all__ = ["FAMILIES", "tokenizer_of", "write_tiny"]

MEAN = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
PINPOINTS = [[32, 64], [64, 32], [64, 64], [32, 96]]
SQUARE = {"height": 32, "width": 32}
PROCESSORS: dict[str, dict[str, Any]] = {
    "llava_next": {
        "image_processor_type": "LlavaNextImageProcessor",
        "image_grid_pinpoints": PINPOINTS,
        "size": {"shortest_edge": 32},
        "crop_size": SQUARE,
    },
    "llava_onevision": {
        "image_processor_type": "LlavaOnevisionImageProcessor",
        "image_grid_pinpoints": PINPOINTS,
        "size": SQUARE,
    },
    "qwen2_5_vl": {
        "image_processor_type": "Qwen2VLImageProcessor",
        "patch_size": 4,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "size": {"shortest_edge": 256, "longest_edge": 4096},
    },
    "internvl": {
        "image_processor_type": "GotOcr2ImageProcessor",
        "size": SQUARE,
        "min_patches": 1,
        "max_patches": 12,
    },
    "smolvlm": {
        "image_processor_type": "SmolVLMImageProcessor",
        "size": {"longest_edge": 64},
        "max_image_size": {"longest_edge": 32},
        "do_image_splitting": True,
    },
}
PROCESSORS["qwen3_vl"] = PROCESSORS["qwen2_5_vl"]
PROCESSORS["internvl3_5"] = PROCESSORS["internvl"]
PLACEHOLDERS = {"qwen2_5_vl": "<|image_pad|>", "qwen3_vl": "<|image_pad|>"}
PLACEHOLDERS |= {"internvl": "<IMG_CONTEXT>", "internvl3_5": "<IMG_CONTEXT>"}
TILES = [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
SPECIAL = ["<|im_start|>", "<|im_end|>", "<end_of_utterance>", "<fake_token_around_image>", "<global-img>", *TILES]


def write_tiny(name: str, folder: Path) -> Path:
    """Save the tiny checkpoint of a family; `name` is a folder of the golden files."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("config.json", "generation_config.json", "model.safetensors"):
        shutil.copy(GOLDEN / name / part, folder / part)
    content = {"do_normalize": True, "do_rescale": True, "do_resize": True, **MEAN, **PROCESSORS[name]}
    (folder / "preprocessor_config.json").write_text(json.dumps(content), encoding="utf-8")
    tokenizer_of(PLACEHOLDERS.get(name, "<image>")).save_pretrained(folder)
    return folder


def tokenizer_of(placeholder: str) -> PreTrainedTokenizerFast:
    """Words of 320 ids; the placeholder is 300, image start and end 301 and 302, end of sequence 310."""
    special = dict(zip(SPECIAL, [*range(2, 8), *range(303, 310), *range(311, 320)], strict=False))
    special |= {"<pad>": 0, "<s>": 1, placeholder: 300, "</s>": 310}
    start, end = ("<img>", "</img>") if placeholder == "<IMG_CONTEXT>" else ("<|vision_start|>", "<|vision_end|>")
    special |= {start: 301, end: 302}
    free = [number for number in range(320) if number not in special.values()]
    words = ["<unk>", "yes", "no", "USER", ":", "ASSISTANT", "?", ".", "Is", "there", "a", "What", "\n"]
    words += [f"w{number}" for number in range(len(free) - len(words))]
    vocabulary = {**special, **dict(zip(words, free, strict=True))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([word for word in special if word not in ("<pad>",)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )
