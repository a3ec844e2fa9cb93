"""What methods before the language model need of a LLaVA checkpoint: its tower, its shape, its word embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from headwise.embedded import CLIP_DIR
from headwise.errors import DataError, ModelError
from headwise.models.checkpoint import Checkpoint, pad_to_square
from headwise.models.tower import Tower
from headwise.study.cells import fingerprint
from headwise.study.digests import file_digests

if TYPE_CHECKING:
    from headwise.models.checkpoint import Vlm

READ = (".json", ".safetensors", ".bin", ".txt")


@dataclass(frozen=True, kw_only=True)
class VisionShape:
    """A CLIP tower's width C, attention heads, patches per side of its square image, and most tiles of an image."""

    width: int
    heads: int
    side: int
    tiles: int = 1


def vision_shape(checkpoint: Checkpoint) -> VisionShape:
    """The tower's shape, before anything is loaded.

    Raises ModelError where it is no CLIP tower, or where the language model gets more of it than one layer's patches.
    """
    config = _config(str(checkpoint.folder), f"model: {checkpoint.name}")
    vision = config.vision_config
    if vision.model_type != "clip_vision_model":
        raise ModelError(
            f"model: {checkpoint.name} has a {vision.model_type!r} tower; methods before the language model read "
            "`clip_vision_model` ones"
        )
    if config.vision_feature_select_strategy != "default" or not isinstance(config.vision_feature_layer, int):
        raise ModelError(
            f"model: {checkpoint.name} gives the language model [CLS] or several layers of its tower; methods before "
            "the language model read one layer's patches"
        )
    side = vision.image_size // vision.patch_size
    largest = max((height * width for height, width in getattr(config, "image_grid_pinpoints", None) or ()), default=0)
    return VisionShape(
        width=vision.hidden_size,
        heads=vision.num_attention_heads,
        side=side,
        tiles=1 + largest // vision.image_size**2,
    )


def tower_of(vlm: Vlm) -> Tower:
    """The checkpoint's tower and projector."""
    inner = vlm.model.model
    return Tower(inner.vision_tower, inner.multi_modal_projector, vlm.model.config.vision_feature_layer)


def small_pixels(vlm: Vlm, image: Image.Image, side: int) -> Tensor:
    """Pixel values [3, side, side]: the image padded to a square, then resized (bicubic) and normalised."""
    square = pad_to_square(image, vlm.processor.image_mean)
    sizes = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    made = vlm.processor(images=square, resample=Image.Resampling.BICUBIC, return_tensors="pt", **sizes)
    return made["pixel_values"][0]


@torch.inference_mode()
def word_embeddings(vlm: Vlm, text: str) -> Tensor:
    """Input embeddings [m, D] of a text's tokens, without a beginning-of-sequence token."""
    ids = vlm.tokenizer(text).input_ids
    ids = ids[1:] if ids and ids[0] == vlm.tokenizer.bos_token_id else ids
    return vlm.model.get_input_embeddings()(torch.tensor(ids, dtype=torch.long, device=vlm.device)).to(vlm.device)


def clip_source(clip: str) -> str:
    """Where transformers finds the CLIP of that name; `embedded` is in the package."""
    return str(CLIP_DIR) if clip == "embedded" else clip


def clip_digest(clip: str, width: int, allow_pickle: bool = False) -> str:
    """Digest of the full CLIP that text embeddings come from, so that another one's answers are not taken for its.

    Raises ModelError where there is none, or its vision tower is not `width` wide.
    """
    config = _config(clip_source(clip), f"clip: {clip}")
    if config.model_type != "clip":
        raise ModelError(f"clip: {clip} is a {config.model_type!r} checkpoint, not a full CLIP")
    if config.vision_config.hidden_size != width:
        given = config.vision_config.hidden_size
        raise ModelError(f"clip: {clip} has a vision tower of width {given}; the model's has {width}")
    folder = _folder(clip_source(clip), allow_pickle)
    paths = [path for path in sorted(folder.iterdir()) if path.suffix in READ and not path.is_dir()]
    try:
        return fingerprint(list(zip((path.name for path in paths), file_digests(paths), strict=True)))
    except DataError as error:
        raise ModelError(f"clip: {error}") from error


def _folder(clip: str, allow_pickle: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if Path(clip).is_dir():
        return Path(clip)
    patterns = ["*.json", "*.txt", "*.safetensors", *(["*.bin"] if allow_pickle else [])]
    try:
        return Path(snapshot_download(clip, allow_patterns=patterns))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise ModelError(f"clip: cannot load {clip!r}: {' '.join(str(error).split())}") from error


def _config(name: str, what: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{what} has no readable config.json ({' '.join(str(error).split())})") from error
