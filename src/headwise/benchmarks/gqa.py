"""GQA testdev balanced: compositional questions about real scenes, scored by exact match."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from headwise.benchmarks import datasets
from headwise.benchmarks.benchmark import Counts
from headwise.benchmarks.files import (
    INSTRUCTION,
    Grade,
    KeyedBenchmark,
    Truth,
    answered,
    inside,
    load_json,
    percent,
    question_samples,
)
from headwise.errors import DataError
from headwise.records import Sample, Verdict, write_jsonl

KEY_FOLDERS = ("data", "data/questions", "data/questions1.2")
KEY_NAME = "testdev_balanced_questions.json"
UNKNOWN = "-"
_TYPES = ("structural", "semantic")
# The last reasoning step only reads the answer out and adds nothing to the length of the reasoning.
_READING_STEPS = ("exist", "query: name", "choose name")


class GQA(KeyedBenchmark):
    """Source of the rules: GQA's `eval.py`; of the answers' form: LLaVA `convert_gqa_for_eval.py`."""

    name = "gqa"
    title = "GQA"
    rule = "gqa.official-v1"
    rank = 3
    sets = frozenset({"embedded", "published", "llava"})
    home = "gqa"
    question_file = "gqa/llava_gqa_testdev_balanced.jsonl"
    image_folder = "gqa/data/images"
    official = Counts(questions=12578, labels=12578, images=398)
    fixes = {
        "labels": "unpack questions1.2.zip (GQA's download page) in gqa/data/, for testdev_balanced_questions.json",
        "images": "unpack images.zip (GQA's download page) into gqa/data/images/",
    }
    dataset = "lmms-lab/GQA"
    source = "GQA eval.py; LLaVA convert_gqa_for_eval.py"
    convention = "testdev balanced"

    def questions(self, data_dir: Path) -> list[Sample]:
        """The questions of LLaVA's file, in its order, with its prompts."""
        return question_samples(data_dir / "gqa" / "llava_gqa_testdev_balanced.jsonl", self.name)

    def image_path(self, data_dir: Path, sample: Sample) -> Path:
        """The image in `gqa/data/images` below `data_dir`."""
        return inside(data_dir / "gqa" / "data" / "images", sample.image)

    def truths(self, data_dir: Path, samples: Sequence[Sample]) -> Callable[[Sample], Truth]:
        """The annotated answer per sample. DataError where it is missing or the annotation is malformed."""
        path = key_path(data_dir)
        key = load_json(path)
        if not isinstance(key, dict):
            raise DataError(f"{path}: expected an object of annotations by question_id")

        def truth_of(sample: Sample) -> Truth:
            question = key.get(sample.question_id)
            if not isinstance(question, dict) or not isinstance(question.get("answer"), str):
                raise DataError(f"{path}: no answer for question {sample.question_id!r}")
            if not _is_annotation(question):
                raise DataError(f"{path}: the annotation of question {sample.question_id!r} is malformed")
            return Truth(category_of(question), question["answer"], question["answer"])

        return truth_of

    def grade(self, text: str, key: str) -> Grade:
        """1 where the answer equals the annotation under GQA's rule."""
        return grade(text, key)

    def metrics(self, verdicts: Sequence[Verdict]) -> dict[str, float]:
        """Under `category/` what the official script prints.

        That is binary and open questions, structural and semantic types, reasoning steps and words.
        """
        groups: dict[str, list[Verdict]] = defaultdict(list)
        for verdict in answered(verdicts):
            for name in _groups(verdict.category):
                groups[name].append(verdict)
        return {f"category/{name}": percent(group) or 0.0 for name, group in sorted(groups.items())}

    def from_dataset(self, folder: Path, bundle: Path) -> None:
        """Write images, questions with LLaVA's instruction, and the answer key in the layout of LLaVA's bundle."""
        for row in datasets.rows(folder, "testdev_balanced_images", ["id", "image"]):
            datasets.save_image(bundle / "gqa" / "data" / "images", f"{row['id']}.jpg", row["image"])
        questions, key = [], {}
        columns = ["id", "imageId", "question", "answer", "types", "semantic"]
        for row in datasets.rows(folder, "testdev_balanced_instructions", columns):
            text, image = f"{row['question']}\n{INSTRUCTION}", f"{row['imageId']}.jpg"
            questions.append({"question_id": row["id"], "image": image, "text": text, "category": "default"})
            key[row.pop("id")] = row
        write_jsonl(bundle / "gqa" / "llava_gqa_testdev_balanced.jsonl", questions)
        datasets.write_json(bundle / "gqa" / "data" / KEY_NAME, key)


def grade(text: str, answer: str) -> Grade:
    """Exact match after the trailing dots are gone and the text is lower case; no other cleaning (official)."""
    prediction = text.rstrip(".").lower()
    return Grade(prediction, float(prediction == answer), bool(prediction.strip()))


def _is_annotation(question: Mapping[str, Any]) -> bool:
    """True if a question's type annotations have the form of GQA's (each part is optional)."""
    types, program = question.get("types") or {}, question.get("semantic", [])
    named = isinstance(types, dict) and all(isinstance(types.get(name, ""), str | None) for name in _TYPES)
    steps = isinstance(program, list) and all(isinstance(step, dict) for step in program)
    return named and steps and isinstance(question.get("question", ""), str)


def key_path(data_dir: Path) -> Path:
    """The first existing answer key of its three usual paths (the first path if none exists)."""
    places = [data_dir / "gqa" / folder / KEY_NAME for folder in KEY_FOLDERS]
    return next((place for place in places if place.exists()), places[0])


def category_of(question: Mapping[str, Any]) -> str:
    """`structural/semantic/steps/words` of a question, with `-` for missing annotations."""
    types = question.get("types") or {}
    steps = str(_steps(question["semantic"])) if "semantic" in question else UNKNOWN
    words = str(len(question["question"].split())) if "question" in question else UNKNOWN
    return "/".join([types.get("structural") or UNKNOWN, types.get("semantic") or UNKNOWN, steps, words])


def _steps(program: Sequence[Mapping[str, str]]) -> int:
    described = (f"{step.get('operation')}: {step.get('argument')}" for step in program)
    return sum(not any(reading in step for reading in _READING_STEPS) for step in described)


def _groups(category: str) -> list[str]:
    structural, semantic, steps, words = category.split("/")
    named = {"structural": structural, "semantic": semantic, "steps": steps, "words": words}
    groups = [f"{dimension}/{value}" for dimension, value in named.items() if value != UNKNOWN]
    if structural != UNKNOWN:
        groups.append("open" if structural == "query" else "binary")
    return groups
