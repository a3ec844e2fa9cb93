"""POPE: does the model see objects that are not there? Yes/no questions in three categories of negatives."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from headwise.benchmarks import datasets
from headwise.benchmarks.benchmark import Counts
from headwise.benchmarks.datasets import Row
from headwise.benchmarks.files import (
    INSTRUCTION,
    Grade,
    KeyedBenchmark,
    Truth,
    answered,
    inside,
    question_samples,
)
from headwise.errors import DataError
from headwise.records import Key, Sample, Verdict, read_jsonl, write_jsonl
from headwise.stats.aggregates import MeanF1

CATEGORIES = ("adversarial", "popular", "random")


class POPE(KeyedBenchmark):
    """Source of the rules: LLaVA `llava/eval/eval_pope.py`.

    One fix: the official script pairs the n-th answer of a category with the n-th label, so that answers
    in another order get the wrong labels. Here the n-th label belongs to the n-th question of its
    category in the question file, whatever the order of the answers.
    """

    name = "pope"
    title = "POPE"
    rule = "pope.llava-v1"
    aggregate = MeanF1(positive="yes")
    rank = 4
    sets = frozenset({"embedded", "published", "llava", "vlm"})
    home = "pope"
    question_file = "pope/llava_pope_test.jsonl"
    image_folder = "pope/val2014"
    official = Counts(questions=8910, labels=8910, images=500)
    official_categories = {"adversarial": 3000, "popular": 3000, "random": 2910}
    categories = CATEGORIES
    fixes = {
        "labels": "take coco_pope_*.json from POPE's repository at the commit named in LLaVA's docs/Evaluation.md: "
        "later releases have other questions",
        "images": "unpack COCO's val2014.zip into pope/val2014/",
    }
    dataset = "lmms-lab/POPE"
    cluster = "image, with its questions of all three categories"
    source = "LLaVA llava/eval/eval_pope.py"
    convention = "mean F1 of three categories; some papers report accuracy (category/*/accuracy)"

    def questions(self, data_dir: Path) -> list[Sample]:
        """The questions of LLaVA's file, in its order; the category is the sampling of absent objects."""
        return question_samples(question_file(data_dir), self.name)

    def image_path(self, data_dir: Path, sample: Sample) -> Path:
        """The image in `pope/val2014` below `data_dir`."""
        return inside(data_dir / "pope" / "val2014", sample.image)

    def truths(self, data_dir: Path, samples: Sequence[Sample]) -> Callable[[Sample], Truth]:
        """Yes or no per sample, from POPE's annotation files. DataError where a question has no label."""
        key = answer_key(data_dir, {sample.category for sample in samples})

        def truth_of(sample: Sample) -> Truth:
            if sample.key not in key:
                raise DataError(f"{question_file(data_dir)}: has no question {sample.question_id!r} of that wording")
            return Truth(sample.category, key[sample.key], key[sample.key])

        return truth_of

    def grade(self, text: str, key: str) -> Grade:
        """1 where the answer says yes or no as the label does, by LLaVA's rule."""
        return grade(text, key)

    def metrics(self, verdicts: Sequence[Verdict]) -> dict[str, float]:
        """Per category the figures the official script prints."""
        groups: dict[str, list[Verdict]] = defaultdict(list)
        for verdict in answered(verdicts):
            groups[verdict.category].append(verdict)
        figures = {category: binary_figures(group) for category, group in sorted(groups.items())}
        return {f"category/{c}/{name}": value for c, each in figures.items() for name, value in each.items()}

    def from_dataset(self, folder: Path, bundle: Path) -> None:
        """The dataset numbers questions per category; here they are numbered throughout, as in LLaVA's file."""
        questions: list[Row] = []
        labels = defaultdict(list)
        for row in datasets.rows(folder, "test", ["question", "answer", "image_source", "category", "image"]):
            name = f"{row['image_source'].removesuffix('.jpg')}.jpg"
            asked = {"question_id": len(questions) + 1, "image": name, "text": f"{row['question']}\n{INSTRUCTION}"}
            questions.append(asked | {"category": row["category"]})
            labels[row["category"]].append({"image": name, "text": row["question"], "label": row["answer"].lower()})
            datasets.save_image(bundle / "pope" / "val2014", name, row["image"])
        (bundle / "pope" / "coco").mkdir()
        for category, rows in labels.items():
            write_jsonl(inside(bundle / "pope" / "coco", f"coco_pope_{category}.json"), rows)
        write_jsonl(bundle / "pope" / "llava_pope_test.jsonl", questions)


def binary_figures(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """F1, accuracy, precision, recall and yes-ratio in % with "yes" as the positive class, and the counts.

    A ratio with denominator 0 is 0; the official script fails with a division by zero.
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
    for sample in question_samples(question_file(data_dir), "pope"):
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
    """Check that a label is for this image and question: other releases of POPE have another order."""
    if row.get("label") not in ("yes", "no"):
        raise DataError(f"{path}, line {number}: label {row.get('label')!r} is not yes or no")
    meant = str(row.get("image", sample.image)), _object(str(row.get("text", sample.prompt)))
    if meant != (sample.image, _object(sample.prompt)):
        raise DataError(f"{path}, line {number}: is about another question than number {number} in the question file")
