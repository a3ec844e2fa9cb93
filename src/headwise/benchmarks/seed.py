"""SEED-Bench, image part: multiple choice in nine dimensions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from headwise.benchmarks import datasets, letters
from headwise.benchmarks.benchmark import Counts
from headwise.benchmarks.fields import by_id, once
from headwise.benchmarks.files import (
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

CHOICES = "ABCD"
TYPES = (
    "Scene Understanding", "Instance Identity", "Instance Attributes", "Instance Location", "Instances Counting",
    "Spatial Relation", "Instance Interaction", "Visual Reasoning", "Text Understanding",
)  # fmt: skip


class SEED(KeyedBenchmark):
    """Source of the rules: LLaVA `scripts/convert_seed_for_submission.py`."""

    name = "seed"
    title = "SEED-Bench (image)"
    rule = "seed.llava-v1"
    rank = 8
    sets = frozenset({"llava", "vlm"})
    home = "seed_bench"
    question_file = "seed_bench/llava-seed-bench.jsonl"
    image_folder = "seed_bench/SEED-Bench-image"
    official = Counts(questions=14233, labels=14233, known_from="literature")
    fixes = {
        "labels": "put SEED-Bench.json (AILab-CVC/SEED-Bench on Hugging Face) into seed_bench/",
        "images": "unpack SEED-Bench-image.zip (AILab-CVC/SEED-Bench on Hugging Face) in seed_bench/",
    }
    dataset = "lmms-lab/SEED-Bench"
    source = "LLaVA scripts/convert_seed_for_submission.py"
    convention = "image questions, micro average; LLaVA's model zoo reports image and video together (58.6 for 7B)"

    def questions(self, data_dir: Path) -> list[Sample]:
        """The questions about images (those about videos are left out). DataError where there is none."""
        path = data_dir / self.question_file
        rows = question_samples(path, self.name)
        if odd := [sample for sample in rows if sample.category not in ("image", "video")]:
            raise DataError(
                f"{path}: question {odd[0].question_id!r} is of category {odd[0].category!r}, not image or video"
            )
        samples = [sample for sample in rows if sample.category == "image"]
        if not samples:
            raise DataError(f"{path}: holds no question of category image")
        return once(samples, path)

    def not_asked(self, data_dir: Path) -> frozenset[str]:
        """The questions about videos."""
        rows = question_samples(data_dir / self.question_file, self.name)
        return frozenset(sample.question_id for sample in rows if sample.category != "image")

    def image_path(self, data_dir: Path, sample: Sample) -> Path:
        """The image in the benchmark's folder below `data_dir`."""
        return inside(data_dir / self.home, sample.image)

    def truths(self, data_dir: Path, samples: Sequence[Sample]) -> Callable[[Sample], Truth]:
        """The correct letter per sample, and the question's type. DataError where it is none of A, B, C, D."""
        path = data_dir / self.home / "SEED-Bench.json"
        content = load_json(path)
        if not isinstance(content, dict) or not isinstance(content.get("questions"), list):
            raise DataError(f"{path}: expected an object with a list `questions`")
        names = {number: name for name, number in (content.get("question_type") or {}).items()}
        key = by_id(content["questions"], "question_id", path)

        def truth_of(sample: Sample) -> Truth:
            row = key.get(sample.question_id)
            if row is None or row.get("answer") not in tuple(CHOICES):
                raise DataError(f"{path}: no answer for question {sample.question_id!r} (A, B, C or D)")
            number = row.get("question_type_id")
            if number not in names:
                raise DataError(f"{path}: question {sample.question_id!r} is of type {number!r}, which has no name")
            return Truth(str(names[number]), row["answer"], row["answer"])

        return truth_of

    def grade(self, text: str, key: str) -> Grade:
        """The text is the letter, nothing else: no blank, no full stop, no lower case."""
        return Grade(text, float(text == key), text in tuple(CHOICES))

    def metrics(self, verdicts: Sequence[Verdict]) -> dict[str, float]:
        """Accuracy per question type."""
        groups: dict[str, list[Verdict]] = defaultdict(list)
        for verdict in answered(verdicts):
            groups[verdict.category].append(verdict)
        return {f"category/{name}": percent(group) or 0.0 for name, group in sorted(groups.items())}

    def from_dataset(self, folder: Path, bundle: Path) -> None:
        """Split test; videos (several frames) are left out."""
        choices = [f"choice_{letter.lower()}" for letter in CHOICES]
        kept = ["answer", *choices, "data_id", "data_type", "question", "question_id", "question_type_id"]
        questions: list[dict[str, Any]] = []
        for row in datasets.rows(folder, "test", [*kept, "image"]):
            if row["data_type"] != "image":
                continue
            name = f"SEED-Bench-image/{row['data_id']}"
            options = dict(zip(CHOICES, (row[choice] for choice in choices), strict=True))
            text = letters.asked(row["question"], options)
            picture = row.pop("image")
            datasets.save_image(bundle / self.home, name, picture[0] if isinstance(picture, list) else picture)
            questions.append(row | {"image": name, "text": text})
        asked = [{"question_id": q["question_id"], "image": q["image"], "text": q["text"]} for q in questions]
        write_jsonl(bundle / self.question_file, [row | {"category": "image"} for row in asked])
        types = {name: number for number, name in enumerate(TYPES, 1)}
        key = {"questions": [{part: q[part] for part in kept} for q in questions], "question_type": types}
        datasets.write_json(bundle / self.home / "SEED-Bench.json", key)


class SEEDLmms(SEED):
    """Rule of lmms-eval: the first character of the stripped text, in any case."""

    name = "seed.lmms-v1"
    title = "SEED-Bench (image, lmms-eval's rule)"
    rule = "seed.lmms-v1"
    sets = frozenset()
    source = "lmms-eval tasks/seedbench"

    def grade(self, text: str, key: str) -> Grade:
        """1 where the first character of the stripped answer is the correct letter."""
        letter = text.strip()[:1].upper()
        return Grade(letter, float(letter == key), letter in tuple(CHOICES))
