"""A LLaVA checkpoint: its geometry, its prompt, its images as embeddings. Any folder or hub name works.

The prompt and the image preparation are those of LLaVA-1.5's own evaluation: the Vicuna v1
conversation, and images padded to a square with the processor's mean colour before CLIP's processor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer, LlavaForConditionalGeneration
from transformers.utils import logging as hf_logging

from headwise.embedded import MODEL_DIR
from headwise.errors import DataError, ModelError
from headwise.models.decoder import home
from headwise.study.cells import Geometry, fingerprint
from headwise.study.digests import file_digests

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
BEFORE_IMAGE = f"{SYSTEM} USER: "
AFTER_IMAGE = "\n{question} ASSISTANT:"
PROMPT_VERSION = "vicuna-v1/square-pad/1"
"""Changes whenever prompt or image preparation change, so that old answers are not taken for new ones."""

FILES = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]
READ = (".json", ".safetensors", ".bin", ".model", ".jinja", ".txt")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint that has been found but not loaded: where it is, its shape, and a digest of it."""

    name: str
    folder: Path
    geometry: Geometry
    shape: dict[str, int]
    digest: str


def find_checkpoint(name: str, allow_pickle: bool = False) -> Checkpoint:
    """Resolve `embedded`, a folder or a hub name without loading weights.

    `shape` holds hidden, intermediate, heads, kv_heads, head_dim, layers and vocabulary of the decoder.
    Raises ModelError where there is no such checkpoint or its architecture is not LLaVA's.
    """
    folder = MODEL_DIR if name == "embedded" else Path(name)
    if not folder.is_dir():
        folder = _download(name, allow_pickle)
    config = _read_config(name, folder)
    text, vision = config.text_config, config.vision_config
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    side = vision.image_size // vision.patch_size
    with_class = config.vision_feature_select_strategy == "full" and vision.model_type == "clip_vision_model"
    shape = {
        "layers": text.num_hidden_layers,
        "hidden": text.hidden_size,
        "intermediate": text.intermediate_size,
        "heads": text.num_attention_heads,
        "kv_heads": text.num_key_value_heads,
        "head_dim": head_dim,
        "vocabulary": text.vocab_size,
    }
    return Checkpoint(
        name=name,
        folder=folder,
        geometry=Geometry(
            layers=text.num_hidden_layers, heads=text.num_attention_heads, visual=side * side + int(with_class)
        ),
        shape=shape,
        digest=_digest(folder),
    )


class Vlm:
    """A loaded checkpoint. `dtype` auto is float32 on a CPU and the checkpoint's own elsewhere.

    `device_map` (auto, balanced, …) spreads a model over `devices`, or all GPUs, by accelerate; its inputs
    and what the engine keeps stay on `device`.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        dtype: str = "auto",
        device: str = "auto",
        allow_pickle: bool = False,
        device_map: str | None = None,
        devices: Sequence[str] = (),
    ) -> None:
        self.checkpoint = checkpoint
        self.device = pick_device(device)
        if dtype == "auto" and self.device.type == "cpu":
            dtype = "float32"
        safe = None if allow_pickle else True
        weights: dict[str, Any] = {"dtype": dtype, "attn_implementation": "sdpa", "use_safetensors": safe}
        if device_map is not None:
            weights |= {"device_map": device_map, "max_memory": _free_memory(devices)}
        hf_logging.disable_progress_bar()
        try:
            self.model: Any = LlavaForConditionalGeneration.from_pretrained(checkpoint.folder, **weights)
            self.tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint.folder, trust_remote_code=False)
            self.processor: Any = AutoImageProcessor.from_pretrained(
                checkpoint.folder, backend="pil", trust_remote_code=False
            )
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"model: cannot load {checkpoint.name}: {_first_line(error)}") from error
        finally:
            hf_logging.enable_progress_bar()
        if device_map is None:
            self.model.to(self.device)
        else:
            self.device = home(self.model)
        self.model.eval().requires_grad_(False)
        self.dtype: torch.dtype = self.model.dtype
        self.visual = checkpoint.geometry.visual

    def prepare(self, image: Image.Image) -> Tensor:
        """Pixel values [3, height, width] of one image: padded to a square, resized, cropped, normalised."""
        square = pad_to_square(image, self.processor.image_mean)
        return self.processor(images=square, return_tensors="pt")["pixel_values"][0]

    @torch.inference_mode()
    def encode_images(self, pixels: Sequence[Tensor]) -> Tensor:
        """Visual tokens [I, V, D] of prepared images."""
        stacked = torch.stack(list(pixels)).to(self.device, self.dtype)
        features = self.model.get_image_features(stacked).pooler_output
        visual_IVD = torch.stack(list(features)) if not isinstance(features, Tensor) else features
        if visual_IVD.shape[1] != self.visual:
            raise ModelError(f"model: {visual_IVD.shape[1]} visual tokens an image, its config says {self.visual}")
        return visual_IVD.to(self.device)

    @torch.inference_mode()
    def system(self) -> Tensor:
        """Embeddings [M, D] of everything before the image, the beginning-of-sequence token included."""
        return self._embed(self.tokenizer(BEFORE_IMAGE).input_ids)

    @torch.inference_mode()
    def question(self, prompt: str) -> Tensor:
        """Embeddings [Q, D] of everything after the image for one question."""
        return self._embed(self.question_ids(prompt))

    def question_ids(self, prompt: str) -> list[int]:
        """Token ids after the image; the text is tokenised on its own and loses its beginning-of-sequence token."""
        ids = self.tokenizer(AFTER_IMAGE.format(question=prompt)).input_ids
        return ids[1:] if ids and ids[0] == self.tokenizer.bos_token_id else ids

    def text(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode(list(tokens), skip_special_tokens=True).strip()

    def _embed(self, ids: Sequence[int]) -> Tensor:
        return self.model.get_input_embeddings()(torch.tensor(ids, device=self.device)).to(self.device)


def pad_to_square(image: Image.Image, mean: Sequence[float]) -> Image.Image:
    """Centre the image on a square of the processor's mean colour (LLaVA-1.5's image_aspect_ratio `pad`)."""
    width, height = image.size
    if width == height:
        return image
    side = max(width, height)
    square = Image.new("RGB", (side, side), tuple(int(part * 255) for part in mean))
    square.paste(image, ((side - width) // 2, (side - height) // 2))
    return square


def _free_memory(devices: Sequence[str]) -> dict[int | str, int] | None:
    """Free bytes of the named GPUs, which keeps accelerate off the others; None for no such limit."""
    if not devices:
        return None
    indices = [torch.device(name).index for name in devices]
    return {index: torch.cuda.mem_get_info(index)[0] for index in indices}


def pick_device(name: str) -> torch.device:
    """The device of that name; `auto` is the first GPU where there is one. ModelError where it is absent."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"device: {name!r} is not available here ({_first_line(error)})") from error
    return device


def _download(name: str, allow_pickle: bool) -> Path:
    try:
        return Path(snapshot_download(name, allow_patterns=[*FILES, "*.bin"] if allow_pickle else FILES))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise ModelError(
            f"model: {name!r} is not `embedded`, a folder, or a checkpoint that the hub or its local cache has "
            f"({_first_line(error)})"
        ) from error


def _read_config(name: str, folder: Path) -> Any:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"model: {name} has no readable config.json ({_first_line(error)})") from error
    if config.model_type != "llava":
        raise ModelError(f"model: {name} is a {config.model_type!r} checkpoint; headwise reads `llava` ones")
    return config


def _digest(folder: Path) -> str:
    """Digest of the whole content of everything that is read from a checkpoint's folder.

    ModelError for a file that cannot be read.
    """
    paths = [path for path in sorted(folder.iterdir()) if path.suffix in READ and not path.is_dir()]
    try:
        digests = file_digests(paths)
    except DataError as error:
        raise ModelError(f"model: {error}") from error
    return fingerprint(list(zip((path.name for path in paths), digests, strict=True)))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
