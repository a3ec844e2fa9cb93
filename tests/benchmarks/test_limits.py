"""Which questions a limit takes: evenly over categories and images, the same ones and more for a larger limit."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from headwise.benchmarks import benchmark, named_sets
from headwise.benchmarks.limits import evenly
from headwise.embedded import DATA_DIR
from headwise.records import Sample
from headwise.scoring.score import score_records

LIMITS = (1, 2, 3, 5, 10, 20, 31, 60, 90, 200)


def question(number: int, image: str, category: str) -> Sample:
    return Sample(benchmark="pope", question_id=str(number), image=image, prompt=f"{number}?", category=category)


def official_pope(images: int = 500, per_image: int = 6) -> list[Sample]:
    """Category by category, image by image, as LLaVA's question file has them."""
    names = [(category, image) for category in ("adversarial", "popular", "random") for image in range(images)]
    asked = [(category, image) for category, image in names for _ in range(per_image)]
    return [question(number, f"{image}.jpg", category) for number, (category, image) in enumerate(asked)]


def irregular(seed: int) -> list[Sample]:
    """Questions in no order about images and categories of unlike size."""
    draw = Random(seed)
    return [question(n, f"{draw.randrange(9)}", f"{min(draw.randrange(9), 3)}") for n in range(draw.randrange(3, 90))]


def by_image(sample: Sample) -> str:
    return sample.image


@pytest.mark.parametrize("whole_images", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_a_limit_is_part_of_every_larger_one_in_file_order(seed, whole_images):
    samples = irregular(seed)
    before: set[str] = set()
    first = 0
    for limit in range(1, len(samples) + 2):
        places = [int(sample.question_id) for sample in evenly(samples, limit, *[by_image] * whole_images)]
        taken = {samples[place].question_id for place in places}
        assert places == sorted(set(places))
        assert before <= taken
        first = len(taken) if limit == 1 else first
        assert len(taken) <= max(limit, first)
        assert whole_images or len(taken) == min(limit, len(samples))
        before = taken
    assert len(before) == len(samples)


@pytest.mark.parametrize("limit", LIMITS)
def test_categories_sorted_one_after_another_get_equal_shares(limit):
    shares = Counter(sample.category for sample in evenly(official_pope(), limit))
    counts = [shares[category] for category in ("adversarial", "popular", "random")]
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("limit", LIMITS)
def test_every_question_is_about_another_image_as_long_as_there_are_images(limit):
    assert len({sample.image for sample in evenly(official_pope(), limit)}) == limit


@pytest.mark.parametrize("limit", [60, 300, 1500])
def test_questions_that_alternate_between_yes_and_no_stay_balanced(limit):
    taken = evenly(official_pope(), limit)
    for category in ("adversarial", "popular", "random"):
        places = [int(sample.question_id) for sample in taken if sample.category == category]
        assert sum(place % 2 for place in places) == pytest.approx(len(places) / 2, abs=1)


@pytest.mark.parametrize("limit", LIMITS)
def test_mme_keeps_both_questions_of_an_image_together(limit):
    taken = benchmark("mme").samples(DATA_DIR, limit)
    assert set(Counter(sample.image for sample in taken).values()) == {2}
    assert len(taken) == max(2, limit - limit % 2)


@pytest.mark.parametrize(("name", "images"), [("textvqa", 60), ("mme", 30), ("gqa", 60), ("pope", 60)])
def test_images_of_the_embedded_study_at_its_default_limit(name, images):
    """60 of the first questions would be about 30, 30, 10 and 4 images."""
    taken = benchmark(name).samples(DATA_DIR, 60)
    assert (len(taken), len({sample.image for sample in taken})) == (60, images)


@pytest.mark.parametrize("name", named_sets()["published"])
def test_answers_to_a_limited_study_are_complete_for_its_limit(name):
    from headwise.records import Answer

    samples = benchmark(name).samples(DATA_DIR, 8)
    answers = [Answer(question_id=s.question_id, prompt=s.prompt, text="yes") for s in samples]
    card, verdicts = score_records(name, DATA_DIR, answers, 8)
    assert card.complete
    assert [verdict.image for verdict in verdicts] == [sample.image for sample in samples]


def test_a_limited_pope_is_the_mean_of_all_three_categories():
    """Taking the first questions gave 100.00 for a model that sees everything in one category and nothing in two."""
    from headwise.records import Answer

    samples = benchmark("pope").samples(DATA_DIR, 60)
    assert Counter(sample.category for sample in samples) == {"random": 20, "popular": 20, "adversarial": 20}
    truths = benchmark("pope").judge(DATA_DIR, samples, {})
    said = [truth.truth if truth.category == "random" else "no" for truth in truths]
    pairs = zip(samples, said, strict=True)
    answers = [Answer(question_id=s.question_id, prompt=s.prompt, text=text) for s, text in pairs]
    assert score_records("pope", DATA_DIR, answers, 60)[0].score == pytest.approx(100 / 3)
