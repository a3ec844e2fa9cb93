"""VizWiz-VQA validation: questions of blind people about their own photographs, scored by soft accuracy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from headwise.benchmarks import datasets
from headwise.benchmarks.benchmark import Counts
from headwise.benchmarks.evalai import normalise, soft_scores
from headwise.benchmarks.fields import category_of, text_of
from headwise.benchmarks.files import INSTRUCTION, Grade, KeyedBenchmark, Truth, answered, inside, load_json, percent
from headwise.errors import DataError
from headwise.records import Sample, Verdict

UNANSWERABLE = "When the provided information is insufficient, respond with 'Unanswerable'."
ANNOTATORS = 10


class VizWiz(KeyedBenchmark):
    """Source of the rules: EvalAI's soft accuracy, as TextVQA's; of the prompt: LLaVA's test file."""

    name = "vizwiz"
    title = "VizWiz (val)"
    rule = "vizwiz.evalai-v1"
    rank = 9
    sets = frozenset({"llava"})
    home = "vizwiz"
    question_file = "vizwiz/val.json"
    image_folder = "vizwiz/val"
    official = Counts(questions=4319, labels=4319, images=4319, known_from="card")
    fixes = {
        "questions": "unpack Annotations.zip (vizwiz.org) and put val.json into vizwiz/; LLaVA's llava_test.jsonl "
        "has no answers",
        "images": "unpack val.zip (vizwiz.org) into vizwiz/, which makes vizwiz/val/",
    }
    dataset = "lmms-lab/VizWiz-VQA"
    source = "EvalAI server (mmf EvalAIAnswerProcessor), leave-one-out over ten answers"
    convention = "val split; figures in papers are of the test split (LLaVA-1.5-7B 50.0), another measurement"

    def questions(self, data_dir: Path) -> list[Sample]:
        """One sample per row; its id is the row's number from 0."""
        path = data_dir / self.question_file
        rows = enumerate(self._rows(data_dir))
        return [self._sample(str(number), row, f"{path}, question {number}") for number, row in rows]

    def _sample(self, number: str, row: dict[str, Any], where: str) -> Sample:
        question = text_of(row, "question", where).capitalize()
        prompt = f"{question}\n{UNANSWERABLE}\n{INSTRUCTION}"
        return Sample(benchmark=self.name, question_id=number, image=text_of(row, "image", where), prompt=prompt)

    def _rows(self, data_dir: Path) -> list[dict[str, Any]]:
        path = data_dir / self.question_file
        rows = load_json(path)
        if not isinstance(rows, list) or not rows:
            raise DataError(f"{path}: expected a list of questions")
        for number, row in enumerate(rows):
            if not isinstance(row, dict) or not {"image", "question"} <= row.keys():
                raise DataError(f"{path}, question {number}: needs image and question")
        return rows

    def image_path(self, data_dir: Path, sample: Sample) -> Path:
        """The image in the image folder below `data_dir`."""
        return inside(data_dir / self.image_folder, sample.image)

    def truths(self, data_dir: Path, samples: Sequence[Sample]) -> Callable[[Sample], Truth]:
        """The ten annotators' answers per sample. DataError where a row has another number of them."""
        rows, path = self._rows(data_dir), data_dir / self.question_file

        def truth_of(sample: Sample) -> Truth:
            row = rows[int(sample.question_id)]
            where = f"{path}, question {sample.question_id}"
            given = [text_of(each, "answer", where, numbers=True) for each in row.get("answers") or []]
            if len(given) != ANNOTATORS:
                raise DataError(f"{where}: lacks its ten answers")
            return Truth(category_of(row, "answer_type", where), " | ".join(dict.fromkeys(given)), tuple(given))

        return truth_of

    def grade(self, text: str, key: tuple[str, ...]) -> Grade:
        """VQA's soft accuracy, 0 to 1, of the normalised answer; `key`: the annotators' answers."""
        prediction = normalise(text)
        return Grade(prediction, soft_scores(key).get(prediction, 0.0), bool(text.strip()))

    def metrics(self, verdicts: Sequence[Verdict]) -> dict[str, float]:
        """Soft accuracy per answer type."""
        groups: dict[str, list[Verdict]] = defaultdict(list)
        for verdict in answered(verdicts):
            groups[verdict.category].append(verdict)
        return {f"category/{name}": percent(group) or 0.0 for name, group in sorted(groups.items()) if name}

    def from_dataset(self, folder: Path, bundle: Path) -> None:
        """Split val; the answer type is the dataset's category."""
        rows = []
        for row in datasets.rows(folder, "val", ["question_id", "question", "answers", "category", "image"]):
            name = f"{str(row['question_id']).removesuffix('.jpg')}.jpg"
            answers = [{"answer": str(each)} for each in row["answers"]]
            asked = {"image": name, "question": row["question"], "answer_type": row["category"]}
            rows.append(asked | {"answers": answers})
            datasets.save_image(bundle / self.image_folder, name, row["image"])
        datasets.write_json(bundle / self.question_file, rows)
