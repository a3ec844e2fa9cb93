"""What compare says about the best configuration."""

import pytest

from headwise.report.text import best_set_sentence


@pytest.mark.parametrize(
    ("members", "candidates", "said"),
    [
        (["a"], 1, "Nothing to compare it with."),
        (["a"], 2, "Significantly better than the other one."),
        (["a"], 9, "Significantly better than the 8 others."),
        (["a", "b"], 9, "Best set, statistically tied with the best at 95 %: 2 of 9: a, b."),
    ],
)
def test_best_set_in_words(members, candidates, said):
    assert best_set_sentence(members, candidates) == said


@pytest.mark.parametrize(("images", "said"), [(1, "1 image is too few"), (4, "4 images are too few")])
def test_too_few_images_are_said_in_these_words(images, said):
    sentence = best_set_sentence(["a", "b"], 2, images)
    assert sentence.startswith(said)
    assert "at least 6 are needed" in sentence
