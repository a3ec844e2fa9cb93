"""POPE against the official script's output."""

import re
import shutil

import pytest

from headwise.benchmarks import benchmark
from headwise.benchmarks.pope import grade
from headwise.errors import DataError
from headwise.records import read_answers

NAMES = {"Accuracy": "accuracy", "Precision": "precision", "Recall": "recall", "F1 score": "f1"}
NAMES["Yes ratio"] = "yes_ratio"


@pytest.fixture
def golden_bundle(golden_files, tmp_path):
    golden = golden_files / "scorers"
    shutil.copytree(golden / "pope_coco", tmp_path / "pope/coco")
    shutil.copy(golden / "pope_questions.jsonl", tmp_path / "pope/llava_pope_test.jsonl")
    return tmp_path


def golden_answers(golden_files):
    return read_answers(golden_files / "scorers/pope_answers.jsonl")


def official_figures(text):
    figures, category = {}, ""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if found := re.match(r"Category: (\w+),", line):
            category = found.group(1)
        elif line.startswith("TP\t"):
            counts = map(float, lines[number + 1].split())
            figures |= {f"category/{category}/{k}": v for k, v in zip(("tp", "fp", "tn", "fn"), counts, strict=True)}
        elif found := re.match(r"(.+): ([\d.]+)$", line):
            name, value = found.group(1), 100 * float(found.group(2))
            figures["score" if name == "Average F1 score" else f"category/{category}/{NAMES[name]}"] = value
    return figures


@pytest.mark.parametrize("turned", [False, True], ids=["in order", "reversed"])
def test_the_golden_printout_is_reproduced_whatever_the_order_of_answers(golden_files, golden_bundle, turned):
    bench = benchmark("pope")
    answers = golden_answers(golden_files)
    answers = answers[::-1] if turned else answers
    verdicts = bench.judge(golden_bundle, bench.samples(golden_bundle), {answer.key: answer for answer in answers})
    card = bench.summarise(verdicts)
    expected = official_figures((golden_files / "scorers/pope_expected.txt").read_text())
    assert len(expected) == 28
    assert card.metrics | {"score": card.score} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "prediction"),
    [
        ("Yes", "yes"),
        ("no", "no"),
        ("NO", "yes"),
        ("Nope", "yes"),
        ("Well,no", "yes"),
        ("No, there is", "no"),
        ("It is not. Yes", "no"),
        ("Sure. No", "yes"),
    ],
)
def test_official_reading_of_an_answer(text, prediction):
    assert grade(text, "yes").prediction == prediction


def test_an_empty_answer_is_unparsed():
    assert not grade(" ", "no").parsed


def test_labels_follow_the_question_file_under_a_limit(bundle):
    bench = benchmark("pope")
    verdicts = bench.judge(bundle, bench.samples(bundle, limit=4), {})
    assert [(verdict.category, verdict.truth) for verdict in verdicts] == [
        ("random", "yes"),
        ("random", "no"),
        ("popular", "yes"),
        ("adversarial", "yes"),
    ]


def test_a_label_file_of_another_length_is_an_error(bundle):
    path = bundle / "pope/coco/coco_pope_random.json"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    bench = benchmark("pope")
    with pytest.raises(DataError, match="1 labels for 2 questions"):
        bench.judge(bundle, bench.samples(bundle), {})


def test_labels_in_another_order_are_an_error(bundle):
    path = bundle / "pope/coco/coco_pope_random.json"
    path.write_text("\n".join(path.read_text().splitlines()[::-1]) + "\n")
    bench = benchmark("pope")
    with pytest.raises(DataError, match="line 1: is about another question"):
        bench.judge(bundle, bench.samples(bundle), {})
