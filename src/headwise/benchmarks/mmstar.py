"""MMStar: 1,500 multiple-choice questions that cannot be answered without the image."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from headwise.benchmarks import letters
from headwise.benchmarks.benchmark import Counts
from headwise.benchmarks.fields import once
from headwise.benchmarks.files import Grade, Truth, answered, percent
from headwise.benchmarks.letters import State
from headwise.benchmarks.parquet import parquet_pictures, parquet_rows
from headwise.benchmarks.pictures import CHOICE_COLUMNS, PicturesInside, needs, table, table_pictures
from headwise.errors import DataError
from headwise.records import Sample, Verdict

_OPTIONS = re.compile(r"\s*Options:\s*(?=A: )")
_OPTION = re.compile(r"(?:^|,\s+)([A-D]): ")


class MMStar(PicturesInside):
    """Source of the rules: VLMEvalKit (see `letters`). A question's category is its category/l2 category."""

    name = "mmstar"
    title = "MMStar"
    rule = "mmstar.vlmeval-2026-06"
    rank = 14
    sets = frozenset({"vlm"})
    home = "MMStar"
    question_file = "MMStar/MMStar.tsv"
    places = ("mmstar/MMStar.tsv", "MMStar/mmstar.parquet", "mmstar/mmstar.parquet", "MMStar.tsv")
    version = 2
    image_folder = "inside the tsv or parquet file"
    official = Counts(questions=1500, labels=1500, known_from="card")
    official_categories = dict.fromkeys(
        ("coarse perception", "fine-grained perception", "instance reasoning", "logical reasoning")
        + ("science & technology", "math"),
        250,
    )
    fixes = {"questions": "put MMStar.tsv (VLMEvalKit) or mmstar.parquet (Lin-Chen/MMStar) into MMStar/"}
    dataset = "Lin-Chen/MMStar"
    cluster = "picture (by content)"
    source = "VLMEvalKit can_infer"
    convention = "mean over all questions; lmms-eval averages the 18 unequal sub-categories"
    state: ClassVar[State] = "2026-06"

    def questions(self, data_dir: Path) -> list[Sample]:
        """One sample per row of the table or Parquet file; DataError names a row that lacks a column."""
        path = self.located(data_dir)
        samples = []
        for number, row in enumerate(self._rows(path), 1):
            needs(row, ("index", "question", "answer", "image"), f"{path}, row {number}")
            samples.append(
                Sample(
                    benchmark=self.name,
                    question_id=row["index"],
                    image=row["image"],
                    prompt=self.prompt(row),
                    category=_category(row),
                )
            )
        return once(samples, path)

    def prompt(self, row: Mapping[str, str]) -> str:
        """The prompt of one row: hint, question, options by letter, instruction."""
        return letters.asked(row["question"], letters.offered(row), row.get("hint", ""))

    def _rows(self, path: Path) -> Sequence[dict[str, str]]:
        if path.suffix == ".tsv":
            return table(path, CHOICE_COLUMNS)
        plain = ("index", "question", "answer", "category", "l2_category")
        return [_with_options(row) for row in parquet_rows((path,), plain)]

    def pictures(self, data_dir: Path) -> Iterator[bytes]:
        """Encoded images of the rows, in file order."""
        path = self.located(data_dir)
        return table_pictures(path) if path.suffix == ".tsv" else parquet_pictures((path,))

    def truths(self, data_dir: Path, samples: Sequence[Sample]) -> Callable[[Sample], Truth]:
        """The correct letter per sample. DataError where a row has none of A, B, C, D."""
        path = self.located(data_dir)
        rows = {row["index"]: row for row in self._rows(path)}

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
        """Accuracy per category, and `average_l2`: the mean over the 18 unequal l2 categories."""
        groups: dict[str, list[Verdict]] = defaultdict(list)
        parts: dict[str, list[Verdict]] = defaultdict(list)
        for verdict in answered(verdicts):
            category, _, l2 = verdict.category.partition("/")
            groups[category].append(verdict)
            parts[l2].append(verdict)
        found = {f"category/{name}": percent(group) or 0.0 for name, group in sorted(groups.items()) if name}
        if parts and "" not in parts:
            found["average_l2"] = sum(percent(part) or 0.0 for part in parts.values()) / len(parts)
        return found

    def from_dataset(self, folder: Path, bundle: Path) -> None:
        """The parquet file as it is."""
        found = sorted(folder.rglob("mmstar.parquet"))
        if not found:
            raise DataError(f"{folder}: no parquet file of val (mmstar.parquet)")
        list(parquet_rows((found[0],), ("index", "question", "answer", "category", "l2_category")))
        place = bundle / "MMStar" / "mmstar.parquet"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(found[0].resolve())


class MMStar2024(MMStar):
    """The letter rule as it was until August 2025."""

    name = "mmstar.vlmeval-2024"
    title = "MMStar (letter rule of 2024)"
    rule = "mmstar.vlmeval-2024"
    sets = frozenset()
    state = "2024"


class MMStar202508(MMStar):
    """The letter rule from August 2025 to June 2026."""

    name = "mmstar.vlmeval-2025-08"
    title = "MMStar (letter rule of 2025-08)"
    rule = "mmstar.vlmeval-2025-08"
    sets = frozenset()
    state = "2025-08"


class MMStarOfficial(MMStar):
    """Rule of MMStar's own repository: any word that begins with the letter passes (quirk)."""

    name = "mmstar.official"
    title = "MMStar (official rule)"
    rule = "mmstar.official"
    sets = frozenset()
    source = "MMStar-Benchmark/MMStar evaluation"

    def grade(self, text: str, key: Any) -> Grade:
        """1 where one of the words that may hold the letter begins with it."""
        said, letter = text.lower().replace("\n", " ").strip(), key[1].lower()
        starts = [said[:1], said[1:2] if said.startswith("(") else ""]
        starts += [said[len(s) : len(s) + 1] for s in ("option ", "the answer is ") if said.startswith(s)]
        return Grade(said, float(letter in starts), any(start and start in "abcd" for start in starts))


class MMStarLmms(MMStar):
    """Rule and prompt of lmms-eval as of April 2026: ranked forms of a letter; its own headline is `average_l2`."""

    name = "mmstar.lmms"
    title = "MMStar (lmms-eval's rule)"
    rule = "mmstar.lmms-2026-04"
    sets = frozenset()
    source = "lmms-eval tasks/mmstar"

    def prompt(self, row: Mapping[str, str]) -> str:
        """Question and options in one text, then the instruction without its full stop."""
        return f"{_in_one(row).strip()}\n{letters.INSTRUCTION.removesuffix('.')}"

    def grade(self, text: str, key: Any) -> Grade:
        """The letter that lmms-eval's ranking of patterns finds; no letter is wrong and unparsed."""
        letter = letters.ranked(text)
        return Grade(letter or "", float(letter == key[1]), letter is not None)


def _category(row: Mapping[str, str]) -> str:
    return f"{row.get('category', '')}/{row.get('l2_category', '')}"


def _in_one(row: Mapping[str, str]) -> str:
    """The question with its options inside ("Options: A: …, B: …"): the dataset's own text, or in its form."""
    if "whole" in row:
        return row["whole"]
    options = ", ".join(f"{letter}: {row[letter]}" for letter in "ABCD" if letter in row)
    return f"{row['question']}\nOptions: {options}" if options else row["question"]


def _with_options(row: dict[str, str]) -> dict[str, str]:
    """The row with its options as columns, and `whole`: the question with them inside, as the dataset has it."""
    parts = _OPTIONS.split(row["question"], maxsplit=1)
    if len(parts) < 2:
        return row | {"whole": row["question"]}
    pieces = _OPTION.split(parts[1])[1:]
    options = {letter: text.strip() for letter, text in zip(pieces[::2], pieces[1::2], strict=True)}
    return row | {"whole": row["question"], "question": parts[0].strip()} | options
