"""AI2D test: multiple choice about school diagrams whose labels are masked with letters."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from headwise.benchmarks import letters
from headwise.benchmarks.benchmark import Counts
from headwise.benchmarks.files import Grade, Truth
from headwise.benchmarks.letters import State
from headwise.benchmarks.parquet import parquet_pictures, parquet_rows
from headwise.benchmarks.pictures import PicturesInside
from headwise.errors import DataError
from headwise.records import Sample

COLUMNS = ("question", "options", "answer")
_LETTER = re.compile(r"^\s*([A-Z])\.")


class AI2D(PicturesInside):
    """Source of the rules: VLMEvalKit (see `letters`)."""

    name = "ai2d"
    title = "AI2D"
    rule = "ai2d.vlmeval-2026-06"
    rank = 15
    sets = frozenset({"vlm"})
    home = "ai2d"
    question_file = "ai2d/data/test-00000-of-00001.parquet"
    image_folder = "inside the parquet files"
    official = Counts(questions=3088, labels=3088, known_from="literature")
    fixes = {"questions": "put the files test-*.parquet of lmms-lab/ai2d into ai2d/data/"}
    dataset = "lmms-lab/ai2d"
    cluster = "picture (by content)"
    source = "VLMEvalKit can_infer"
    convention = "masked labels (VLMEvalKit's AI2D_TEST); without masks scores are 7 to 17 points higher"
    state: ClassVar[State] = "2026-06"

    def questions(self, data_dir: Path) -> list[Sample]:
        """One sample per row; its id is the row's number from 0, the prompt lists the options by letter."""
        return [
            Sample(
                benchmark=self.name,
                question_id=str(number),
                image=row["image"],
                prompt=letters.asked(row["question"], _options(row)),
            )
            for number, row in enumerate(parquet_rows(self._paths(data_dir), COLUMNS))
        ]

    def _paths(self, data_dir: Path) -> list[Path]:
        folder = data_dir / self.home / "data"
        paths = sorted(folder.glob("test-*.parquet"))
        if not paths:
            raise DataError(f"{folder}: holds no test-*.parquet")
        return paths

    def pictures(self, data_dir: Path) -> Iterator[bytes]:
        """Encoded images of the rows, in file order."""
        return parquet_pictures(self._paths(data_dir))

    def truths(self, data_dir: Path, samples: Sequence[Sample]) -> Callable[[Sample], Truth]:
        """The letter of the correct option per sample. DataError where `answer` is not the place of an option."""
        rows = parquet_rows(self._paths(data_dir), COLUMNS)

        def truth_of(sample: Sample) -> Truth:
            row = rows[int(sample.question_id)]
            options, place = _options(row), str(row["answer"])
            if not (place.isdigit() and int(place) < len(options)):
                raise DataError(f"{data_dir / self.home}: question {sample.question_id}: answer {place!r} is no option")
            letter = string.ascii_uppercase[int(place)]
            return Truth("", letter, (options, letter))

        return truth_of

    def grade(self, text: str, key: Any) -> Grade:
        """1 where the letter found in the answer is the correct one; `key`: options by letter, correct letter."""
        return letters.grade(text, key[0], key[1], self.state)

    def from_dataset(self, folder: Path, bundle: Path) -> None:
        """The parquet files of the split test as they are."""
        found = [path for path in sorted(folder.rglob("*.parquet")) if path.name.startswith("test-")]
        if not found:
            raise DataError(f"{folder}: no parquet file of test")
        parquet_rows(found, COLUMNS)
        place = bundle / self.home / "data"
        place.mkdir(parents=True, exist_ok=True)
        for path in found:
            (place / path.name).symlink_to(path.resolve())


class AI2DNoMask(AI2D):
    """The same questions on diagrams that show their labels: another measurement."""

    name = "ai2d_no_mask"
    title = "AI2D (labels shown)"
    rule = "ai2d_no_mask.vlmeval-2026-06"
    rank = 16
    sets = frozenset()
    home = "ai2d_no_mask"
    question_file = "ai2d_no_mask/data/test-00000-of-00001.parquet"
    fixes = {"questions": "put the files test-*.parquet of lmms-lab/ai2d-no-mask into ai2d_no_mask/data/"}
    dataset = "lmms-lab/ai2d-no-mask"
    convention = "labels shown (VLMEvalKit's AI2D_TEST_NO_MASK); 7 to 17 points above the masked test"


class AI2D2024(AI2D):
    """The letter rule as it was until August 2025."""

    name = "ai2d.vlmeval-2024"
    title = "AI2D (letter rule of 2024)"
    rule = "ai2d.vlmeval-2024"
    sets = frozenset()
    state = "2024"


class AI2D202508(AI2D):
    """The letter rule from August 2025 to June 2026."""

    name = "ai2d.vlmeval-2025-08"
    title = "AI2D (letter rule of 2025-08)"
    rule = "ai2d.vlmeval-2025-08"
    sets = frozenset()
    state = "2025-08"


class AI2DLmms(AI2D):
    """Rule of lmms-eval: a letter with a full stop in front, or the whole text; punctuation dropped, any case."""

    name = "ai2d.lmms"
    title = "AI2D (lmms-eval's rule)"
    rule = "ai2d.lmms"
    sets = frozenset()
    source = "lmms-eval tasks/ai2d"

    def grade(self, text: str, key: Any) -> Grade:
        """1 where the letter followed by a full stop, or else the whole text, is the correct letter."""
        found = _LETTER.search(text)
        said = found[1] if found else text.strip()
        plain = said.lower().translate(str.maketrans("", "", string.punctuation))
        return Grade(said, float(plain == key[1].lower()), plain.upper() in key[0])


def _options(row: dict[str, Any]) -> dict[str, str]:
    return {string.ascii_uppercase[place]: str(text) for place, text in enumerate(row["options"])}
