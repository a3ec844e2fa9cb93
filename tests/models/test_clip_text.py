"""A question's CLIP embeddings, on a tiny random CLIP made here."""

import pytest
import torch
from models.clip_files import LENGTH, write_tiny_clip
from transformers import CLIPModel

from headwise.errors import ConfigError, ModelError
from headwise.models.clip_text import ClipText, required_clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A full CLIP of width 16 with a tokenizer of single letters."""
    return write_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def clip(folder) -> ClipText:
    return ClipText(str(folder), width=16)


def ids(clip: ClipText, text: str) -> list[int]:
    return clip.tokenizer(text).input_ids


def reference(folder, ids_ML: list[list[int]], mask_ML: list[list[int]] | None = None) -> torch.Tensor:
    model = CLIPModel.from_pretrained(folder).eval()
    mask = None if mask_ML is None else torch.tensor(mask_ML)
    with torch.no_grad():
        return model.get_text_features(input_ids=torch.tensor(ids_ML), attention_mask=mask).pooler_output


def test_a_short_question_is_what_transformers_makes_of_it(folder, clip):
    short = ids(clip, "a cat?")
    expected = reference(folder, [short])
    torch.testing.assert_close(clip.segments("a cat?"), expected)
    torch.testing.assert_close(clip.truncated("a cat?"), expected)
    assert clip.visual_projection_EC.shape == (12, 16)


def test_a_long_question_is_cut_into_segments(folder, clip):
    text = "what is it " * 20
    long = ids(clip, text)
    assert 2 * LENGTH < len(long) < 3 * LENGTH
    empty = 3 * LENGTH - len(long)
    padded, mask = [*long, *[0] * empty], [1] * len(long) + [0] * empty
    cut = [padded[start : start + LENGTH] for start in range(0, 3 * LENGTH, LENGTH)]
    masks = [mask[start : start + LENGTH] for start in range(0, 3 * LENGTH, LENGTH)]
    text_ME = clip.embed(text, "clip_segments")
    assert text_ME.shape == (3, 12)
    torch.testing.assert_close(text_ME, reference(folder, cut, masks))


def test_a_question_that_fills_a_segment_is_not_padded(clip):
    assert len(ids(clip, "a" * 75)) == LENGTH
    assert clip.segments("a" * 75).shape == (1, 12)
    assert clip.segments("a" * 76).shape == (2, 12)


def test_trim_reads_the_first_77_tokens(folder, clip):
    text = "a" * 200
    cut = [*ids(clip, text)[: LENGTH - 1], ids(clip, "a")[-1]]
    torch.testing.assert_close(clip.embed(text, "clip_truncated"), reference(folder, [cut]))


def test_no_clip_is_one_error_that_names_the_option():
    assert required_clip("trim", "some/clip") == "some/clip"
    for absent in (None, ""):
        with pytest.raises(ConfigError, match="^trim: needs CLIP's text tower.*`clip`"):
            required_clip("trim", absent)


def test_a_clip_that_does_not_fit_is_refused(folder, tmp_path):
    with pytest.raises(ModelError, match="has a vision tower of width 16; the model's has 1024"):
        ClipText(str(folder), width=1024)
    with pytest.raises(ModelError, match="clip: cannot load"):
        ClipText(str(tmp_path), width=16)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ModelError, match="is a 'llama' checkpoint, not a full CLIP"):
        ClipText(str(tmp_path), width=16)
