"""What holds for every benchmark in the list."""

import re

import pytest

from headwise.benchmarks import BENCHMARKS, benchmark
from headwise.errors import ConfigError, DataError
from headwise.records import Answer, Failure

NAMES = list(BENCHMARKS)
RIGHT = {
    "textvqa": {"a1": "Open", "a2": "ACME."},
    "mme": {"Is there a": "Yes", "Is there no": "no, there is not"},
    "gqa": {"100": "Yes.", "101": "box"},
    "pope": {"cat": "Yes", "dog": "No, there is not."},
}
BEST = {"textvqa": 100.0, "mme": 400.0, "gqa": 100.0, "pope": 100.0}


def right_answers(name, samples):
    said = {}
    for sample in samples:
        hints = RIGHT[name]
        text = next(t for hint, t in hints.items() if hint == sample.question_id or hint in sample.prompt)
        said[sample.key] = Answer(question_id=sample.question_id, prompt=sample.prompt, text=text)
    return said


def test_the_list_is_in_the_published_order():
    assert NAMES == ["textvqa", "mme", "gqa", "pope"]


def test_an_unknown_name_is_an_error_that_says_what_is_allowed():
    with pytest.raises(ConfigError, match="'vqav2' is not one of textvqa, mme, gqa, pope"):
        benchmark("vqav2")


@pytest.mark.parametrize("name", NAMES)
def test_right_answers_get_the_best_score(bundle, name):
    bench = benchmark(name)
    samples = bench.samples(bundle)
    card = bench.summarise(bench.judge(bundle, samples, right_answers(name, samples)))
    assert card.score == pytest.approx(BEST[name])
    assert card.complete
    assert card.samples == len(samples)


@pytest.mark.parametrize("name", NAMES)
def test_images_of_all_samples_are_found(bundle, name):
    bench = benchmark(name)
    assert all(bench.image_path(bundle, sample).is_file() for sample in bench.samples(bundle))


@pytest.mark.parametrize("name", NAMES)
def test_failed_and_missing_answers_are_counted_and_never_scored(bundle, name):
    bench = benchmark(name)
    samples = bench.samples(bundle)
    answers = right_answers(name, samples)
    first, last = samples[0], samples[-1]
    answers[first.key] = Failure(question_id=first.question_id, prompt=first.prompt, error="image is corrupt")
    del answers[last.key]
    verdicts = bench.judge(bundle, samples, answers)
    assert [verdicts[0].status, verdicts[-1].status] == ["failed", "missing"]
    assert verdicts[0].correct is None
    assert verdicts[-1].correct is None
    card = bench.summarise(verdicts)
    assert (card.failed, card.missing, card.complete) == (1, 1, False)


@pytest.mark.parametrize("name", NAMES)
def test_no_answers_at_all_give_no_score(bundle, name):
    bench = benchmark(name)
    card = bench.summarise(bench.judge(bundle, bench.samples(bundle), {}))
    assert card.score is None
    assert "score" not in card.as_metrics()


@pytest.mark.parametrize("name", NAMES)
def test_a_limit_takes_questions_in_the_order_of_the_file(bundle, name):
    bench = benchmark(name)
    everything, few = bench.samples(bundle), bench.samples(bundle, limit=2)
    assert len(few) == 2
    assert few == [sample for sample in everything if sample in few]
    assert bench.summarise(bench.judge(bundle, few, right_answers(name, few))).complete


@pytest.mark.parametrize("name", NAMES)
def test_an_image_cannot_leave_its_folder(bundle, name):
    bench = benchmark(name)
    sample = bench.samples(bundle)[0]
    for image in ("../../secret.png", "/etc/passwd", "a/../../b.png", ""):
        bad = type(sample)(benchmark=name, question_id="1", image=image, prompt="?")
        with pytest.raises(DataError, match="leaves the image folder"):
            bench.image_path(bundle, bad)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_question_file_is_named(tmp_path, name):
    with pytest.raises(DataError, match=r"cannot read .*\.jsonl"):
        benchmark(name).samples(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_metric_names_are_fit_for_mlflow(bundle, name):
    bench = benchmark(name)
    samples = bench.samples(bundle)
    metrics = bench.summarise(bench.judge(bundle, samples, right_answers(name, samples))).as_metrics()
    assert all(re.fullmatch(r"[\w\-./ ]+", metric, re.ASCII) for metric in metrics)
    assert not any(other.startswith(f"{metric}/") for metric in metrics for other in metrics)
