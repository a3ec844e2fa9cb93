"""MMBench dev: multiple choice by circular evaluation, every question asked with its options rotated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from headwise.benchmarks import datasets, letters
from headwise.benchmarks.benchmark import Counts, Problem, observed_score
from headwise.benchmarks.fields import once
from headwise.benchmarks.files import Grade, Truth, answered, percent
from headwise.benchmarks.letters import State
from headwise.benchmarks.pictures import CHOICE_COLUMNS, PicturesInside, needs, table, table_pictures
from headwise.errors import DataError
from headwise.records import Sample, Verdict
from headwise.stats.aggregates import GroupMean

# A row's index is its group's index plus ROTATION times the rotation. The file contains all rotations.
ROTATION = 1_000_000
SHORT = {
    "coarse_perception": "CP",
    "finegrained_perception (instance-level)": "FP-S",
    "finegrained_perception (cross-instance)": "FP-C",
    "logic_reasoning": "LR",
    "relation_reasoning": "RR",
    "attribute_reasoning": "AR",
}
COLUMNS = ("index", "question", "hint", "A", "B", "C", "D", "answer", "category", "image", "source", "l2-category")


def group_of(question_id: str) -> str:
    """The group of a row: its index without the rotation."""
    return str(int(question_id) % ROTATION) if question_id.isdigit() else question_id


class MMBench(PicturesInside):
    """Source of the rules: VLMEvalKit's circular evaluation with exact matching (see `letters`)."""

    name = "mmbench"
    title = "MMBench"
    rule = "mmbench.circular-exact-v1"
    aggregate = GroupMean(group=group_of)
    rank = 6
    sets = frozenset({"embedded", "llava", "vlm"})
    home = "mmbench"
    question_file = "mmbench/mmbench_dev_20230712.tsv"
    image_folder = "inside the tsv"
    official = Counts(questions=4377, labels=4377)
    fixes = {"questions": "put mmbench_dev_20230712.tsv (MMBench's download page) into mmbench/; v1.1 is another file"}
    dataset = "lmms-lab/MMBench"
    cluster = "picture (by content), with its groups; a group of rotated rows is one unit"
    source = "VLMEvalKit can_infer and its circular evaluation"
    convention = "circular, exact matching; row accuracy (vanilla_all) is about 10 points higher"
    state: ClassVar[State] = "2026-06"
    instruction: ClassVar[str] = letters.INSTRUCTION
    part: ClassVar[str] = "en"

    def questions(self, data_dir: Path) -> list[Sample]:
        """One sample per row of the table, circular variants included; DataError names a row that lacks a column."""
        path = self.located(data_dir)
        samples = []
        for number, row in enumerate(table(path, CHOICE_COLUMNS), 1):
            needs(row, ("index", "question", "answer", "image"), f"{path}, row {number}")
            if not row["index"].isdecimal():
                raise DataError(f"{path}, row {number}: its index is {row['index']!r}, not a whole number")
            prompt = letters.asked(row["question"], letters.offered(row), row.get("hint", ""), self.instruction)
            samples.append(
                Sample(
                    benchmark=self.name,
                    question_id=row["index"],
                    image=row["image"],
                    prompt=prompt,
                    category=_category(row),
                )
            )
        return once(samples, path)

    def unit_of(self, sample: Sample) -> str:
        """The group of rotated rows: a cut group has no verdict."""
        return group_of(sample.question_id)

    def pictures(self, data_dir: Path) -> Iterator[bytes]:
        """Encoded images of the rows, in file order."""
        return table_pictures(self.located(data_dir))

    def truths(self, data_dir: Path, samples: Sequence[Sample]) -> Callable[[Sample], Truth]:
        """The correct letter per sample. DataError where a row has none of A, B, C, D."""
        path = self.located(data_dir)
        rows = {row["index"]: row for row in table(path, CHOICE_COLUMNS)}

        def truth_of(sample: Sample) -> Truth:
            row = rows.get(sample.question_id)
            if row is None or row.get("answer", "") not in tuple("ABCD"):
                raise DataError(f"{path}: no answer for question {sample.question_id!r} (A, B, C or D)")
            options = {letter: row[letter] for letter in "ABCD" if letter in row}
            return Truth(_category(row), row["answer"], (options, row["answer"]))

        return truth_of

    def grade(self, text: str, key: Any) -> Grade:
        """1 where the letter found in the answer is the correct one; `key`: options by letter, correct letter."""
        return letters.grade(text, key[0], key[1], self.state)

    def metrics(self, verdicts: Sequence[Verdict]) -> dict[str, float]:
        """`vanilla_all`: rows; `vanilla_first`: unrotated rows; circular per category and l2-category."""
        found: dict[str, float] = {}
        first = [verdict for verdict in verdicts if group_of(verdict.question_id) == verdict.question_id]
        for name, rows in (("vanilla_all", verdicts), ("vanilla_first", first)):
            if (value := percent(rows)) is not None:
                found[name] = value
        parts: dict[str, list[Verdict]] = defaultdict(list)
        for verdict in verdicts:
            l2, category = verdict.category.split("/", 1)
            parts[SHORT.get(l2, l2)].append(verdict)
            parts[category].append(verdict)
        for name, part in sorted(parts.items()):
            if name and (value := observed_score(self.aggregate, part)) is not None:
                found[f"category/{name}"] = value
        found["groups"] = len({group_of(verdict.question_id) for verdict in answered(verdicts)})
        return found

    def check_layout(self, data_dir: Path) -> list[Problem]:
        """Groups without all rotations, which are easier: all rows of a group must be right.

        The official file has a row per option; a few groups of four options have three rows.
        """
        rotations: dict[str, list[int]] = defaultdict(list)
        options: dict[str, int] = defaultdict(int)
        for row in table(self.located(data_dir), CHOICE_COLUMNS):
            group = group_of(row["index"])
            rotations[group].append(int(row["index"]) // ROTATION)
            options[group] = max(options[group], sum(letter in row for letter in "ABCD"))
        short = [
            group
            for group, found in rotations.items()
            if sorted(found) != list(range(len(found))) or len(found) < min(options[group], 3)
        ]
        if not short:
            return []
        what = f"groups that lack a rotation: {len(short)} of {len(rotations)}; the first: {short[0]}"
        return [Problem(what=what, fix=f"the file is truncated or of another release: {self.fixes['questions']}")]

    def from_dataset(self, folder: Path, bundle: Path) -> None:
        """The configuration of the language (en, cn), split dev."""
        import base64
        import csv

        path = bundle / self.question_file
        path.parent.mkdir(parents=True, exist_ok=True)
        plain = ["index", "question", "hint", "A", "B", "C", "D", "answer", "category", "source"]
        place = folder / self.part if (folder / self.part).is_dir() else folder
        with open(path, "w", encoding="utf-8", newline="") as out:
            writer = csv.DictWriter(out, COLUMNS, delimiter="\t", lineterminator="\n")
            writer.writeheader()
            for row in datasets.rows(place, "dev", [*plain, "L2-category", "image"]):
                content = datasets.image_bytes(row["image"], f"row {row['index']}")
                values = {name: "" if row[name] is None else row[name] for name in plain}
                encoded = {"image": base64.b64encode(content).decode(), "l2-category": row["L2-category"] or ""}
                writer.writerow(values | encoded)


def _category(row: dict[str, str]) -> str:
    return f"{row.get('l2-category', '')}/{row.get('category', '')}"


class MMBench2024(MMBench):
    """The letter rule as it was until August 2025."""

    name = "mmbench.vlmeval-2024"
    title = "MMBench (letter rule of 2024)"
    rule = "mmbench.vlmeval-2024"
    sets = frozenset()
    state = "2024"


class MMBench202508(MMBench):
    """The letter rule from August 2025 to June 2026."""

    name = "mmbench.vlmeval-2025-08"
    title = "MMBench (letter rule of 2025-08)"
    rule = "mmbench.vlmeval-2025-08"
    sets = frozenset()
    state = "2025-08"
