"""POPE: does the model see objects that are not there? Yes/no questions in three categories of negatives."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from headwise.benchmarks.files import (
    Grade,
    KeyedBenchmark,
    Truth,
    answered,
    inside,
    question_samples,
    scorecard,
)
from headwise.errors import DataError
from headwise.records import Key, Sample, Scorecard, Verdict, read_jsonl

CATEGORIES = ("adversarial", "popular", "random")


class POPE(KeyedBenchmark):
    """Source of the rules: LLaVA `llava/eval/eval_pope.py`.

    One fix on top: there the n-th answer of a category is judged by the n-th label, so that answers in
    another order are judged by others' labels. Here a label belongs to the n-th question of its category
    in the question file, whatever the order of the answers.
    """

    name = "pope"
    title = "POPE"
    kind = "mean_f1"
    version = "1"
    categories = CATEGORIES

    def samples(self, data_dir: Path, limit: int | None = None) -> list[Sample]:
        return question_samples(question_file(data_dir), self.name, limit)

    def image_path(self, data_dir: Path, sample: Sample) -> Path:
        return inside(data_dir / "pope" / "val2014", sample.image)

    def truths(self, data_dir: Path, samples: Sequence[Sample]) -> Callable[[Sample], Truth]:
        key = answer_key(data_dir, {sample.category for sample in samples})

        def truth_of(sample: Sample) -> Truth:
            if sample.key not in key:
                raise DataError(f"{question_file(data_dir)}: has no question {sample.question_id!r} of that wording")
            return Truth(sample.category, key[sample.key], key[sample.key])

        return truth_of

    def grade(self, text: str, key: str) -> Grade:
        return grade(text, key)

    def summarise(self, verdicts: Sequence[Verdict]) -> Scorecard:
        """Mean F1 (%) of the categories with answers; per category the figures the official script prints."""
        groups: dict[str, list[Verdict]] = defaultdict(list)
        for verdict in answered(verdicts):
            groups[verdict.category].append(verdict)
        figures = {category: binary_figures(group) for category, group in sorted(groups.items())}
        metrics = {f"category/{c}/{name}": value for c, each in figures.items() for name, value in each.items()}
        score = sum(each["f1"] for each in figures.values()) / len(figures) if figures else None
        return scorecard(self.name, verdicts, score, metrics)


def binary_figures(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """F1, accuracy, precision, recall and yes-ratio in % with "yes" as the positive class, and the counts.

    A ratio over nothing is 0, where the official script stops with a division by zero.
    """
    pairs = Counter((verdict.prediction, verdict.truth) for verdict in verdicts)
    tp, fp = pairs["yes", "yes"], pairs["yes", "no"]
    tn, fn = pairs["no", "no"], pairs["no", "yes"]
    return {
        "f1": _percent(2 * tp, 2 * tp + fp + fn),
        "accuracy": _percent(tp + tn, len(verdicts)),
        "precision": _percent(tp, tp + fp),
        "recall": _percent(tp, tp + fn),
        "yes_ratio": _percent(tp + fp, len(verdicts)),
        "tp": tp,
        "fp": fp,
        "tn": tn,
        "fn": fn,
    }


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0


def grade(text: str, label: str) -> Grade:
    """Official rule: the first sentence without commas says no if one of its words is No, not or no, else yes."""
    words = text.split(".")[0].replace(",", "").split(" ")
    prediction = "no" if {"No", "not", "no"} & set(words) else "yes"
    return Grade(prediction, float(prediction == label), bool(text.strip()))


def question_file(data_dir: Path) -> Path:
    """The question file, whose order within a category is the order of that category's labels."""
    return data_dir / "pope" / "llava_pope_test.jsonl"


def label_file(data_dir: Path, category: str) -> Path:
    """The label file of a category (JSON Lines)."""
    return data_dir / "pope" / "coco" / f"coco_pope_{category}.json"


def answer_key(data_dir: Path, categories: set[str]) -> dict[Key, str]:
    """Labels ("yes" or "no") of the questions of these categories."""
    questions: dict[str, list[Sample]] = defaultdict(list)
    for sample in question_samples(question_file(data_dir), "pope", None):
        questions[sample.category].append(sample)
    key: dict[Key, str] = {}
    for category in sorted(categories):
        key |= _category_key(label_file(data_dir, known_category(category)), questions[category])
    return key


def known_category(category: str) -> str:
    """The category, which must be one of POPE's (it becomes part of a file name)."""
    if category not in CATEGORIES:
        raise DataError(f"pope: category {category!r} is not one of {', '.join(CATEGORIES)}")
    return category


def _category_key(path: Path, questions: Sequence[Sample]) -> dict[Key, str]:
    labels = list(read_jsonl(path))
    if len(labels) != len(questions):
        raise DataError(f"{path}: {len(labels)} labels for {len(questions)} questions of its category")
    key = {}
    for number, (sample, row) in enumerate(zip(questions, labels, strict=True), 1):
        _check_label(path, number, sample, row)
        key[sample.key] = "no" if row["label"] == "no" else "yes"
    return key


def _object(question: str) -> str:
    """The question up to its object; how it ends ("in the imange?") differs between releases."""
    return " ".join(question.split("\n")[0].split(" in the ")[0].split())


def _check_label(path: Path, number: int, sample: Sample, row: Mapping[str, Any]) -> None:
    """A label says which image and question it is for: another release of POPE has another order."""
    if row.get("label") not in ("yes", "no"):
        raise DataError(f"{path}, line {number}: label {row.get('label')!r} is not yes or no")
    meant = str(row.get("image", sample.image)), _object(str(row.get("text", sample.prompt)))
    if meant != (sample.image, _object(sample.prompt)):
        raise DataError(f"{path}, line {number}: is about another question than number {number} in the question file")
