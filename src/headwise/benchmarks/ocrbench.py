"""OCRBench: reading text in images, 1,000 questions in ten types; the score is how many are right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from headwise.benchmarks import datasets
from headwise.benchmarks.benchmark import Counts
from headwise.benchmarks.fields import text_of
from headwise.benchmarks.files import INSTRUCTION, Grade, KeyedBenchmark, Truth, answered, inside, load_json, percent
from headwise.errors import DataError
from headwise.records import Sample, Verdict
from headwise.stats.aggregates import CategorySum

RECOGNITION = (
    "Regular Text Recognition", "Irregular Text Recognition", "Artistic Text Recognition", "Handwriting Recognition",
    "Digit String Recognition", "Non-Semantic Text Recognition",
)  # fmt: skip
MATH = "Handwritten Mathematical Expression Recognition"
SIZES = dict.fromkeys(RECOGNITION, 50) | {
    "Scene Text-centric VQA": 200,
    "Doc-oriented VQA": 200,
    "Key Information Extraction": 200,
    MATH: 100,
}
MATH_DATASET = "HME100k"


class OCRBench(KeyedBenchmark):
    """Source of the rules: Yuliang-Liu/MultimodalOCR `OCRBench/example.py` and its LLaVA-1.5 script."""

    name = "ocrbench"
    title = "OCRBench"
    rule = "ocrbench.official-v1"
    unit = "right"
    aggregate = CategorySum()
    rank = 11
    sets = frozenset({"vlm"})
    home = "ocrbench"
    question_file = "ocrbench/OCRBench.json"
    image_folder = "ocrbench/OCRBench_Images"
    official = Counts(questions=1000, labels=1000, images=930)
    official_categories = SIZES
    fixes = {
        "questions": "put OCRBench.json (Yuliang-Liu/MultimodalOCR, OCRBench/) into ocrbench/",
        "images": "unpack OCRBench_Images.zip (linked there) in ocrbench/, which makes ocrbench/OCRBench_Images/",
    }
    dataset = "echo840/OCRBench"
    least_new_tokens = 128
    cluster = "image_path"
    source = "MultimodalOCR OCRBench/example.py"
    convention = "number right of 1,000, prompt of the official LLaVA-1.5 script; watch answer length: rambling gains"
    instruction: ClassVar[str] = f"\n{INSTRUCTION}"

    def questions(self, data_dir: Path) -> list[Sample]:
        """One sample per row; its id is the row's number from 0, the question type is the category."""
        path = data_dir / self.question_file
        rows = enumerate(self._rows(data_dir))  # by place: `id` is not unique
        return [self._sample(str(number), row, f"{path}, question {number}") for number, row in rows]

    def _sample(self, number: str, row: dict[str, Any], where: str) -> Sample:
        return Sample(
            benchmark=self.name,
            question_id=number,
            image=text_of(row, "image_path", where),
            prompt=f"{text_of(row, 'question', where)}{self.instruction}",
            category=text_of(row, "type", where),
        )

    def _rows(self, data_dir: Path) -> list[dict[str, Any]]:
        path = data_dir / self.question_file
        rows = load_json(path)
        if not isinstance(rows, list) or not rows:
            raise DataError(f"{path}: expected a list of questions")
        for number, row in enumerate(rows):
            if not isinstance(row, dict) or not {"image_path", "question", "type", "dataset_name"} <= row.keys():
                raise DataError(f"{path}, question {number}: needs image_path, question, type and dataset_name")
        return rows

    def image_path(self, data_dir: Path, sample: Sample) -> Path:
        """The image in the image folder below `data_dir`."""
        return inside(data_dir / self.image_folder, sample.image)

    def truths(self, data_dir: Path, samples: Sequence[Sample]) -> Callable[[Sample], Truth]:
        """Accepted answers per sample, and whether it asks for a formula. DataError where a row has no answer."""
        rows, path = self._rows(data_dir), data_dir / self.question_file

        def truth_of(sample: Sample) -> Truth:
            row = rows[int(sample.question_id)]
            given = row.get("answers")
            where = f"{path}, question {sample.question_id}"
            listed = given if isinstance(given, list) else [given]
            answers = [text_of({"answer": each}, "answer", where, numbers=True) for each in listed]
            if not answers:
                raise DataError(f"{where}: has no answer")
            return Truth(sample.category, " | ".join(answers), (answers, row["dataset_name"] == MATH_DATASET))

        return truth_of

    def grade(self, text: str, key: tuple[list[str], bool]) -> Grade:
        """1 where the answer contains an accepted one; `key`: accepted answers, whether it asks for a formula."""
        return grade(text, *key)

    def metrics(self, verdicts: Sequence[Verdict]) -> dict[str, float]:
        """Numbers right: `recognition` of the six recognition types, `category/…` of each; `percent` of all asked."""
        right: dict[str, float] = defaultdict(float)
        for verdict in answered(verdicts):
            right[verdict.category] += verdict.correct or 0.0
        found = {f"category/{name}": value for name, value in sorted(right.items())}
        if (share := percent(verdicts)) is not None:
            found |= {"recognition": sum(right[name] for name in RECOGNITION), "percent": share}
        return found

    def from_dataset(self, folder: Path, bundle: Path) -> None:
        """Split test; the dataset has no image paths, so images are named by content."""
        rows: list[dict[str, Any]] = []
        for row in datasets.rows(folder, "test", ["dataset", "question", "question_type", "answer", "image"]):
            content = datasets.image_bytes(row["image"], f"question {len(rows)}")
            name = datasets.digest_name(content)
            datasets.save_image(bundle / self.image_folder, name, content)
            asked = {"dataset_name": row["dataset"], "id": len(rows), "image_path": name, "question": row["question"]}
            rows.append(asked | {"answers": row["answer"], "type": row["question_type"]})
        datasets.write_json(bundle / self.question_file, rows)


class OCRBenchPlain(OCRBench):
    """The question alone, as VLMEvalKit and lmms-eval ask it: other answers, other figures."""

    name = "ocrbench.plain-v1"
    title = "OCRBench (plain prompt)"
    rule = "ocrbench.plain-v1"
    sets = frozenset()
    source = "MultimodalOCR OCRBench/example.py; prompt of VLMEvalKit and lmms-eval"
    instruction = ""


def grade(text: str, answers: Sequence[str], formula: bool) -> Grade:
    """Right where any answer stands in the text; formulas without blanks, in their case, all else in lower case."""
    settle = _formula if formula else _plain
    prediction = settle(text)
    right = any(settle(answer) in prediction for answer in answers)
    return Grade(prediction, float(right), bool(text.strip()))


def _plain(text: str) -> str:
    return text.lower().strip().replace("\n", " ")


def _formula(text: str) -> str:
    return text.strip().replace("\n", " ").replace(" ", "")
