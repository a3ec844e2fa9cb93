"""The embedded checkpoint as a user of transformers runs it: `generate` at batch 1, unpruned or under FastV's rule."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from original import _attention_row as attention_row
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from headwise.embedded import MODEL_DIR

LAYER, TOKENS, STEPS = 2, 64, 8
PROMPT = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. "
    "USER: <image>\n{question} ASSISTANT:"
)


class Transformers:
    """The checkpoint as a user of transformers loads it, one question at a time."""

    def __init__(self) -> None:
        self.processor = AutoProcessor.from_pretrained(MODEL_DIR)
        self.model = LlavaForConditionalGeneration.from_pretrained(MODEL_DIR, dtype=torch.float32).eval()

    @torch.inference_mode()
    def answer(self, question: str, image: Path) -> str:
        shown = Image.open(image).convert("RGB")
        given = self.processor(images=shown, text=PROMPT.format(question=question), return_tensors="pt")
        said = self.model.generate(**given, max_new_tokens=STEPS, do_sample=False)
        return self.processor.decode(said[0, given["input_ids"].shape[1] :], skip_special_tokens=True)

    @contextmanager
    def fastv(self) -> Iterator[None]:
        """FastV's rule inside `generate`: layer LAYER leaves the TOKENS visual rows that its last row sees most.

        Position ids stay what they were. Upper layers cache the kept rows only, so they need no mask.
        """
        layers, stays = self.model.model.language_model.layers, None
        image_token = self.model.config.image_token_index
        spans: list[torch.Tensor] = []

        def see(_, args, kwargs) -> None:
            spans[:] = [(kwargs["input_ids"][0] == image_token).nonzero()[:, 0]]

        def choose(layer, args, kwargs) -> None:
            nonlocal stays
            stays = None
            if args[0].shape[1] == 1:
                return
            row_HS = attention_row(layer, args[0], kwargs["position_embeddings"])
            image_V = spans[0]
            kept_R = image_V[row_HS[:, image_V].mean(0).topk(TOKENS).indices]
            stays = torch.ones(args[0].shape[1], dtype=torch.bool)
            stays[image_V] = False
            stays[kept_R] = True

        def cut(layer, args, kwargs):
            if kwargs.get("attention_mask") is not None:
                raise RuntimeError("transformers made a mask, which FastV's rows would not fit")
            if stays is None:
                return args, kwargs
            rope = tuple(each[:, stays] for each in kwargs["position_embeddings"])
            hidden = args[0][:, stays] if args[0].shape[1] == len(stays) else args[0]
            return (hidden, *args[1:]), kwargs | {"position_embeddings": rope}

        hooks = [self.model.register_forward_pre_hook(see, with_kwargs=True)]
        hooks += [layers[LAYER - 1].register_forward_pre_hook(choose, with_kwargs=True)]
        hooks += [layer.register_forward_pre_hook(cut, with_kwargs=True) for layer in layers[LAYER:]]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
