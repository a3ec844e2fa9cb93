"""A checkpoint: its geometry, its prompt, its images as embeddings. Any folder or hub name of a known family works.

Prompt and image preparation are the family's (headwise.models.FAMILIES).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoTokenizer

# At the top transformers 5.17 has a stand-in that asks for torchvision, which `backend="pil"` does not need.
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.utils import logging as hf_logging

from headwise.embedded import MODEL_DIR
from headwise.errors import DataError, ModelError
from headwise.models import FAMILIES, family_of
from headwise.models.contract import ImageOptions, Picture
from headwise.models.decoder import check_text_config, home
from headwise.models.llava import Llava, pad_to_square
from headwise.study.cells import Geometry, fingerprint
from headwise.study.digests import file_digests
from headwise.study.versions import carried

# The prompt of LLaVA-1.5; other families have versions of their own.
PROMPT_VERSION = Llava.prompt_version

__all__ = ["BEFORE_IMAGE", "PROMPT_VERSION", "Checkpoint", "Vlm", "find_checkpoint", "pad_to_square", "pick_device"]

# LLaVA-1.5's prompt before the image.
BEFORE_IMAGE = Llava.prompt.partition("{image}")[0]

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
    family: str = Llava.name
    images: ImageOptions = field(default_factory=ImageOptions)

    @property
    def prompt_version(self) -> str:
        """Version of the family's prompt and image preparation, part of the fingerprint of answers.

        A family of another package has the digest of its source in it, too.
        """
        return carried(FAMILIES[self.family].prompt_version, type(FAMILIES[self.family]))

    @property
    def image_options(self) -> dict[str, int]:
        """The limits of image size that its family reads, as they are in force."""
        return FAMILIES[self.family].limits(self.images)

    @property
    def image_parts(self) -> tuple[dict[str, int], ...]:
        """What image size adds to what answers are kept under: nothing where the family reads no limit."""
        return (self.image_options,) if self.image_options else ()

    def seen_as(self, images: ImageOptions) -> Checkpoint:
        """The checkpoint with limits of image size. ConfigError for one that its family does not read, or a bad one."""
        FAMILIES[self.family].check(images)
        return replace(self, images=images)


def find_checkpoint(name: str, allow_pickle: bool = False) -> Checkpoint:
    """Resolve `embedded`, a folder or a hub name without loading weights.

    `shape` holds hidden, intermediate, heads, kv_heads, head_dim, layers and vocabulary of the decoder.
    Raises ModelError where there is no such checkpoint, or its family or decoder is none that is driven.
    """
    folder = MODEL_DIR if name == "embedded" else Path(name)
    if not folder.is_dir():
        folder = _download(name, allow_pickle)
    config = _read_config(name, folder)
    family, text = family_of(config, name), config.text_config
    check_text_config(text, name)
    if text.model_type not in family.text_types:
        raise ModelError(
            f"model: {name} is {family.title} with a {text.model_type!r} decoder; headwise drives it with "
            f"{', '.join(family.text_types)}"
        )
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
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
        geometry=Geometry(layers=text.num_hidden_layers, heads=text.num_attention_heads, visual=family.visual(config)),
        shape=shape,
        digest=_digest(folder),
        family=family.name,
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
        """Load model, tokenizer and image processor.

        Args:
            checkpoint: where it is, as `find_checkpoint` found it.
            dtype: `auto`, `float32`, `bfloat16` or `float16`.
            device: `auto`, `cpu`, `cuda` or `cuda:0`.
            allow_pickle: whether weights in pickle files, which may execute arbitrary code, are loaded.
            device_map: how accelerate spreads the layers over `devices`; None: one device.
            devices: the devices to use with `device_map`.

        Raises:
            ModelError: float16 with a family whose activations overflow in it, or a checkpoint that cannot be loaded.
        """
        self.checkpoint, self.family = checkpoint, FAMILIES[checkpoint.family]
        if dtype == "float16" and not self.family.float16:
            raise ModelError(f"dtype: float16 overflows in {self.family.title}; use bfloat16, float32 or auto")
        self.device = pick_device(device)
        if dtype == "auto" and self.device.type == "cpu":
            dtype = "float32"
        safe = None if allow_pickle else True
        weights: dict[str, Any] = {"dtype": dtype, "attn_implementation": "sdpa", "use_safetensors": safe}
        if device_map is not None:
            weights |= {"device_map": device_map, "max_memory": _free_memory(devices)}
        hf_logging.disable_progress_bar()
        try:
            self.model: Any = AutoModelForImageTextToText.from_pretrained(checkpoint.folder, **weights)
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
        self._end_with(self.tokenizer.eos_token_id)

    def _end_with(self, token: int | None) -> None:
        """Let the tokenizer's end of sequence end answers, too: not every checkpoint names it anywhere else."""
        settings = self.model.generation_config
        known = settings.eos_token_id
        named = [] if known is None else [known] if isinstance(known, int) else list(known)
        if token is not None and token not in named:
            settings.eos_token_id = [*named, token]

    def prepare(self, image: Image.Image) -> Any:
        """One image as its family's processor prepares it: [3, height, width] where V is fixed, else its parts."""
        pixels = self.family.prepare(self.processor, image, self.checkpoint.images)
        return pixels if self.visual is None else pixels["pixel_values"][0]

    @torch.inference_mode()
    def encode_images(self, pixels: Sequence[Any]) -> Tensor | list[Picture]:
        """Visual tokens of prepared images: [I, V, D] where V is fixed, else a Picture each."""
        if self.visual is None:
            return [self.family.encode(self.model, self.tokenizer, each) for each in pixels]
        stacked = torch.stack(list(pixels)).to(self.device, self.dtype)
        features = self.model.get_image_features(stacked).pooler_output
        visual_IVD = torch.stack(list(features)) if not isinstance(features, Tensor) else features
        if visual_IVD.shape[1] != self.visual:
            raise ModelError(f"model: {visual_IVD.shape[1]} visual tokens an image, its config says {self.visual}")
        return visual_IVD.to(self.device)

    @torch.inference_mode()
    def system(self) -> Tensor:
        """Embeddings [M, D] of everything before the image, the beginning-of-sequence token included."""
        return self._embed(self.family.ids(self.tokenizer, self.model.config, "")[0])

    @torch.inference_mode()
    def question(self, prompt: str) -> Tensor:
        """Embeddings [Q, D] of everything after the image for one question."""
        return self._embed(self.question_ids(prompt))

    def question_ids(self, prompt: str) -> list[int]:
        """Token ids after the image."""
        return self.family.ids(self.tokenizer, self.model.config, prompt)[1]

    def text(self, tokens: Sequence[int]) -> str:
        """The decoded answer, without special tokens and surrounding blanks."""
        return self.tokenizer.decode(list(tokens), skip_special_tokens=True).strip()

    def _embed(self, ids: Sequence[int]) -> Tensor:
        return self.model.get_input_embeddings()(torch.tensor(ids, device=self.device)).to(self.device)


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
