"""ScienceQA, image part of the test split: multiple choice about school science."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from headwise.benchmarks import datasets, letters
from headwise.benchmarks.benchmark import Counts
from headwise.benchmarks.fields import category_of, id_of, once, text_of
from headwise.benchmarks.files import Grade, KeyedBenchmark, Truth, answered, inside, load_json, percent, same_pictures
from headwise.errors import DataError
from headwise.records import Sample, Verdict

LETTERS = "ABCDE"
# Quirk: the full stop was meant literally, but stands for any character, so that some character must follow.
_ANSWER_IS = re.compile(r"The answer is ([A-Z]).")


class ScienceQA(KeyedBenchmark):
    """Source of the rules: LLaVA `llava/eval/eval_science_qa.py`."""

    name = "scienceqa"
    title = "ScienceQA-IMG"
    rule = "scienceqa.llava-v1"
    rank = 5
    sets = frozenset({"llava"})
    home = "scienceqa"
    question_file = "scienceqa/llava_test_CQM-A.json"
    image_folder = "scienceqa/images/test"
    official = Counts(questions=2017, labels=2017, images=2017)
    fixes = {
        "labels": "put problems.json (ScienceQA's repository, data/scienceqa) into scienceqa/",
        "images": "unpack test.zip (ScienceQA's repository) into scienceqa/images/test/: one folder per question",
    }
    dataset = "lmms-lab/ScienceQA"
    cluster = "picture (by content): the same maps recur in many folders"
    source = "LLaVA llava/eval/eval_science_qa.py"
    convention = "image questions of the test split; LLaVA-1.5-7B's released weights give 69.5, its paper says 66.8"

    def questions(self, data_dir: Path) -> list[Sample]:
        """The questions that have an image, in file order, with LLaVA's instruction."""
        samples = []
        path = data_dir / self.question_file
        for number, row in enumerate(self._rows(data_dir), 1):
            if row.get("image") not in (None, ""):
                where = f"{path}, question {number}"
                value = text_of(row["conversations"][0], "value", where).replace("<image>", "").strip()
                samples.append(
                    Sample(
                        benchmark=self.name,
                        question_id=id_of(row, "id", where),
                        image=text_of(row, "image", where),
                        prompt=f"{value}\n{letters.INSTRUCTION}",
                    )
                )
        if not samples:
            raise DataError(f"{path}: holds no question with an image")
        return once(samples, path)

    def not_asked(self, data_dir: Path) -> frozenset[str]:
        """The questions without an image."""
        return frozenset(str(row["id"]) for row in self._rows(data_dir) if row.get("image") in (None, ""))

    def _rows(self, data_dir: Path) -> list[dict[str, Any]]:
        path = data_dir / self.question_file
        rows = load_json(path)
        if not isinstance(rows, list):
            raise DataError(f"{path}: expected a list of questions")
        for number, row in enumerate(rows, 1):
            if not isinstance(row, dict) or "id" not in row or not row.get("conversations"):
                raise DataError(f"{path}, question {number}: needs id and conversations")
        return rows

    def image_path(self, data_dir: Path, sample: Sample) -> Path:
        """The image in the image folder below `data_dir`."""
        return inside(data_dir / self.image_folder, sample.image)

    def clusters(self, data_dir: Path, samples: Sequence[Sample]) -> Mapping[str, str]:
        """One cluster per distinct picture: the same picture lies under several names."""
        return same_pictures({sample.image: self.image_path(data_dir, sample) for sample in samples})

    def truths(self, data_dir: Path, samples: Sequence[Sample]) -> Callable[[Sample], Truth]:
        """The place of the correct choice per sample, and the number of choices. DataError where there is no answer."""
        path = data_dir / "scienceqa" / "problems.json"
        problems = load_json(path)

        def truth_of(sample: Sample) -> Truth:
            problem = problems.get(sample.question_id)
            if not isinstance(problem, dict):
                raise DataError(f"{path}: no answer for question {sample.question_id!r}")
            answer, choices = problem.get("answer"), problem.get("choices")
            places = range(len(choices)) if isinstance(choices, list) else ()
            if not isinstance(answer, int) or isinstance(answer, bool) or answer not in places:
                raise DataError(f"{path}: question {sample.question_id!r}: its answer is no place in its choices")
            subject = category_of(problem, "subject", f"{path}, question {sample.question_id!r}")
            return Truth(subject, LETTERS[answer], (answer, len(places)))

        return truth_of

    def grade(self, text: str, key: tuple[int, int]) -> Grade:
        """1 where the letter in the answer is the correct one; `key`: place of the correct choice, count of choices."""
        return grade(text, *key)

    def metrics(self, verdicts: Sequence[Verdict]) -> dict[str, float]:
        """Accuracy per subject."""
        groups: dict[str, list[Verdict]] = defaultdict(list)
        for verdict in answered(verdicts):
            groups[verdict.category].append(verdict)
        return {f"category/{name}": percent(group) or 0.0 for name, group in sorted(groups.items()) if name}

    def from_dataset(self, folder: Path, bundle: Path) -> None:
        """The configuration ScienceQA-IMG, split test. It has no ids: a question's is its place there."""
        place = folder / "ScienceQA-IMG" if (folder / "ScienceQA-IMG").is_dir() else folder
        columns = ["question", "choices", "answer", "hint", "subject", "image"]
        questions, problems = [], {}
        for number, row in enumerate(datasets.rows(place, "test", columns)):
            name = f"{number}/image.png"
            context = f"Context: {row['hint']}\n" if row["hint"] else ""
            options = (f"{LETTERS[place]}. {text}" for place, text in enumerate(row["choices"]))
            text = "\n".join([f"{context}{row['question']}", *options])
            said = [{"from": "human", "value": f"<image>\n{text}"}, {"from": "gpt", "value": LETTERS[row["answer"]]}]
            questions.append({"id": str(number), "image": name, "conversations": said})
            problems[str(number)] = {part: row[part] for part in columns if part != "image"}
            datasets.save_image(bundle / self.image_folder, name, row["image"])
        datasets.write_json(bundle / self.question_file, questions)
        datasets.write_json(bundle / "scienceqa" / "problems.json", problems)


def grade(text: str, answer: int, options: int) -> Grade:
    """Official rule: a bare letter, a letter with ". " after it, or one "The answer is X" with something after it.

    A letter beyond the offered options names nothing.
    """
    letter = _letter(text)
    index = LETTERS[:options].find(letter) if letter else -1
    return Grade(letter, float(index == answer), index >= 0)


def _letter(text: str) -> str:
    if len(text) == 1 and text in LETTERS:
        return text
    if len(text) >= 3 and text[0] in LETTERS and text[1:3] == ". ":
        return text[0]
    found = _ANSWER_IS.findall(text)
    return found[0] if len(found) == 1 else ""
