"""ChartQA test: questions about charts, scored by relaxed accuracy (numbers within five per cent)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from headwise.benchmarks import datasets
from headwise.benchmarks.benchmark import Counts
from headwise.benchmarks.fields import text_of
from headwise.benchmarks.files import INSTRUCTION, Grade, KeyedBenchmark, Truth, answered, inside, load_json, percent
from headwise.errors import DataError
from headwise.records import Sample, Verdict

SPLITS = ("human", "augmented")
TOLERANCE = 0.05


class ChartQA(KeyedBenchmark):
    """Source of the rules: relaxed accuracy of pix2struct's metrics, as VLMEvalKit applies it."""

    name = "chartqa"
    title = "ChartQA"
    rule = "chartqa.relaxed-v1"
    rank = 12
    sets = frozenset({"vlm"})
    home = "chartqa"
    question_file = "chartqa/test/test_human.json"
    image_folder = "chartqa/test/png"
    official = Counts(questions=2500, labels=2500, known_from="literature")
    official_categories = {"human": 1250, "augmented": 1250}
    fixes = {
        "questions": "unpack ChartQA Dataset.zip (vis-nlp/ChartQA) and move its test/ to chartqa/test/",
        "images": "unpack ChartQA Dataset.zip (vis-nlp/ChartQA) and move its test/png/ to chartqa/test/png/",
    }
    dataset = "lmms-lab/ChartQA"
    cluster = "imgname"
    source = "VLMEvalKit relaxed_correctness (pix2struct metrics)"
    convention = "mean over all 2,500 questions; commas, $ and units are not removed"
    instruction: ClassVar[str] = INSTRUCTION

    def questions(self, data_dir: Path) -> list[Sample]:
        """The human and the augmented questions; an id is `split_number`, the split is the category."""
        return [self._sample(split, f"{split}_{number}", row, data_dir) for split, number, row in self._rows(data_dir)]

    def _sample(self, split: str, name: str, row: dict[str, Any], data_dir: Path) -> Sample:
        where = f"{data_dir / self.home}, question {name}"
        prompt = f"{text_of(row, 'query', where)}\n{self.instruction}"
        image = text_of(row, "imgname", where)
        return Sample(benchmark=self.name, question_id=name, image=image, prompt=prompt, category=split)

    def _rows(self, data_dir: Path) -> Iterator[tuple[str, int, dict[str, Any]]]:
        for split in SPLITS:
            path = data_dir / "chartqa" / "test" / f"test_{split}.json"
            rows = load_json(path)
            if not isinstance(rows, list) or not rows:
                raise DataError(f"{path}: expected a list of questions")
            for number, row in enumerate(rows):
                if not isinstance(row, dict) or not {"imgname", "query", "label"} <= row.keys():
                    raise DataError(f"{path}, question {number}: needs imgname, query and label")
                yield split, number, row

    def image_path(self, data_dir: Path, sample: Sample) -> Path:
        """The chart in the image folder below `data_dir`."""
        return inside(data_dir / self.image_folder, sample.image)

    def truths(self, data_dir: Path, samples: Sequence[Sample]) -> Callable[[Sample], Truth]:
        """The label per sample. DataError where a question has none."""
        labels = {f"{split}_{number}": row for split, number, row in self._rows(data_dir)}

        def truth_of(sample: Sample) -> Truth:
            if sample.question_id not in labels:
                raise DataError(f"{data_dir / self.home}: no label for question {sample.question_id!r}")
            where = f"{data_dir / self.home}, question {sample.question_id}"
            label = text_of(labels[sample.question_id], "label", where, numbers=True)
            if not label.strip():
                raise DataError(f"{where}: its label is empty")
            return Truth(sample.category, label, label)

        return truth_of

    def grade(self, text: str, key: str) -> Grade:
        """1 where the stripped answer agrees with the label: numbers within 5 %, other text equal in any case."""
        return Grade(text.strip(), relaxed(text.strip(), key), bool(text.strip()))

    def metrics(self, verdicts: Sequence[Verdict]) -> dict[str, float]:
        """Relaxed accuracy of the two splits."""
        groups: dict[str, list[Verdict]] = defaultdict(list)
        for verdict in answered(verdicts):
            groups[verdict.category].append(verdict)
        return {name: percent(group) or 0.0 for name, group in sorted(groups.items())}

    def from_dataset(self, folder: Path, bundle: Path) -> None:
        """Split test; the dataset has no image names, so images are named by content."""
        rows: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
        for row in datasets.rows(folder, "test", ["type", "question", "answer", "image"]):
            split = str(row["type"]).removesuffix("_test")
            if split not in rows:
                raise DataError(f"{folder}: type {row['type']!r} is not human_test or augmented_test")
            content = datasets.image_bytes(row["image"], f"{split} {len(rows[split])}")
            name = datasets.digest_name(content)
            datasets.save_image(bundle / self.image_folder, name, content)
            rows[split].append({"imgname": name, "query": row["question"], "label": row["answer"]})
        for split, part in rows.items():
            datasets.write_json(bundle / "chartqa" / "test" / f"test_{split}.json", part)


class ChartQALmms(ChartQA):
    """Rule and prompt of lmms-eval: the answer is compared as it was generated, blanks and all."""

    name = "chartqa.lmms-v1"
    title = "ChartQA (lmms-eval's rule)"
    rule = "chartqa.lmms-v1"
    sets = frozenset()
    source = "lmms-eval tasks/chartqa"
    instruction = "Answer the question with a single word."

    def grade(self, text: str, key: str) -> Grade:
        """1 where the answer as generated agrees with the label: numbers within 5 %, other text equal in any case."""
        return Grade(text, relaxed(text, key), bool(text.strip()))


def relaxed(prediction: str, label: str) -> float:
    """1.0 within five per cent of a label that is a number other than 0, else where the lower-cased texts are equal."""
    said, meant = _number(prediction), _number(label)
    if said is not None and meant:
        return float(abs(said - meant) / abs(meant) <= TOLERANCE)
    return float(prediction.lower() == label.lower())


def _number(text: str) -> float | None:
    """What Python reads as a number, so "1e3" and "inf" pass, "1,000" and "$7" do not; a percentage is a fraction."""
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None
