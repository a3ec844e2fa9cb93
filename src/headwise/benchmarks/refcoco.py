"""RefCOCO, RefCOCO+ and RefCOCOg: the box of what an expression refers to, right where IoU ≥ 0.5."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from headwise.benchmarks import datasets
from headwise.benchmarks.boxes import Box, into_square, iou, out_of_square
from headwise.benchmarks.fields import text_of
from headwise.benchmarks.files import Grade, KeyedBenchmark, Truth, answered, inside, percent
from headwise.errors import DataError
from headwise.records import Sample, Verdict, read_jsonl, write_jsonl
from headwise.stats.aggregates import CategoryMean

SPLITS = (
    "refcoco_val", "refcoco_testA", "refcoco_testB", "refcoco+_val", "refcoco+_testA", "refcoco+_testB",
    "refcocog_val", "refcocog_test", "refcoco_test", "refcoco+_test",
)  # fmt: skip
# The datasets of RefCOCO+ and RefCOCOg, and how their files are called.
FURTHER = {"lmms-lab/RefCOCOplus": "refcoco+", "lmms-lab/RefCOCOg": "refcocog"}
REGION = "Please provide the bounding box coordinate of the region this sentence describes: "
LMMS = (
    "Bounding box coordinates are specified in the format (top-left x, top-left y, bottom-right x, bottom-right y). "
    "All values are floating point numbers bounded between 0 and 1. "
)
ENOUGH = 0.5
_NUMBER = r"-?\d+(?:\.\d+)?"
_LISTED = re.compile(rf"\[\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\]")
_LOOSE = r"-?\d*\.?\d+"  # VLMEvalKit reads ".5" too
_BRACKETED = re.compile(rf"\[\s*({_LOOSE})[,\s]+({_LOOSE})[,\s]+({_LOOSE})[,\s]+({_LOOSE})\s*\]")


class Region(NamedTuple):
    """The true box in pixels, in an image of that size."""

    box: Box
    width: float
    height: float


class RefCOCO(KeyedBenchmark):
    """LLaVA-1.5 answers in fractions of the square that the image was padded to, so the truth is moved there.

    Source of the rules: lmms-eval `tasks/refcoco`; of the padded square: LLaVA's issues 606 and 822.
    """

    name = "refcoco"
    title = "RefCOCO/+/g"
    rule = "refcoco.lmms-padded-v1"
    aggregate = CategoryMean()
    rank = 13
    sets = frozenset({"embedded", "vlm"})
    home = "refcoco"
    question_file = "refcoco/refcoco_val.jsonl"
    image_folder = "refcoco"
    fixes = {
        "questions": "put <set>_<split>.jsonl as Qwen-VL and InternVL publish them (refcoco_val.jsonl, "
        "refcoco+_testA.jsonl, refcocog_test.jsonl, …) into refcoco/; one split is enough",
        "images": "unpack COCO's train2014.zip where the rows' paths point, usually refcoco/data/coco2014/train2014/",
    }
    dataset = "lmms-lab/RefCOCO"
    further_datasets = tuple(FURTHER)
    least_new_tokens = 48
    boxes = True
    box_space = "padded"
    rules_by_space = {
        "image": "refcoco.lmms-image-v1",
        "thousandths": "refcoco.vlmevalkit-v1",
        "resized": "refcoco.qwen2_5_vl-v1",
    }
    cluster = "image, with its expressions of all splits"
    source = "lmms-eval tasks/refcoco, truth in the padded square"
    convention = "mean over the splits there are; boxes in fractions of the padded square, as LLaVA-1.5 answers"
    prompt: ClassVar[str] = REGION

    def questions(self, data_dir: Path) -> list[Sample]:
        """One sample per referring expression; an id is `split_number`, the split is the category."""
        return [self._sample(split, f"{split}_{number}", row, data_dir) for split, number, row in self._rows(data_dir)]

    def _sample(self, split: str, name: str, row: dict[str, Any], data_dir: Path) -> Sample:
        where = f"{data_dir / self.home}, question {name}"
        prompt = f"{self.prompt}{text_of(row, 'sent', where)}"
        image = text_of(row, "image", where)
        return Sample(benchmark=self.name, question_id=name, image=image, prompt=prompt, category=split)

    def _rows(self, data_dir: Path) -> Iterator[tuple[str, int, dict[str, Any]]]:
        folder = data_dir / self.home
        paths = [path for split in SPLITS if (path := folder / f"{split}.jsonl").exists()]
        if not paths:
            raise DataError(f"{folder}: holds none of {', '.join(f'{split}.jsonl' for split in SPLITS)}")
        for path in paths:
            for number, row in enumerate(read_jsonl(path)):
                missing = [name for name in ("image", "sent", "bbox", "width", "height") if name not in row]
                if missing:
                    raise DataError(f"{path}, line {number + 1}: lacks {', '.join(missing)}")
                yield path.stem, number, row

    def image_path(self, data_dir: Path, sample: Sample) -> Path:
        """The image in the image folder below `data_dir`."""
        return inside(data_dir / self.image_folder, sample.image)

    def truths(self, data_dir: Path, samples: Sequence[Sample]) -> Callable[[Sample], Truth]:
        """The region per sample, in pixels with the image's size. DataError where a row has no box inside its image."""
        regions = {f"{split}_{number}": _region(row) for split, number, row in self._rows(data_dir)}

        def truth_of(sample: Sample) -> Truth:
            region = regions.get(sample.question_id)
            if region is None:
                where = data_dir / self.home
                raise DataError(f"{where}: question {sample.question_id!r} has no box x1, y1, x2, y2 in its image")
            return Truth(sample.category, json.dumps(self.target(region)), region)

        return truth_of

    def target(self, region: Region) -> Box:
        """The true box as answers have it: fractions of the square that the image was padded to."""
        return into_square(region.box, region.width, region.height)

    def in_pixels(self, said: str, width: int, height: int) -> Box | None:
        """The box of a verdict's `prediction` or `truth`, which are in the space of `target`."""
        return self.to_pixels(_box(json.loads(said)), width, height) if said else None

    def to_pixels(self, box: Box, width: int, height: int) -> Box:
        """The inverse of `target`."""
        return out_of_square(box, width, height)

    def parse(self, text: str, region: Region) -> Box | None:
        """The first list of four numbers; ".5", round brackets and missing commas do not count."""
        found = _LISTED.search(text)
        return _box(found.groups()) if found else None

    def grade(self, text: str, key: Region) -> Grade:
        """1 where the IoU of answered and true box is at least 0.5; an answer without a box scores 0."""
        box = self.parse(text, key)
        overlap = iou(box or (0.0, 0.0, 0.0, 0.0), self.target(key))
        return Grade(json.dumps(box) if box else "", float(overlap >= ENOUGH), box is not None)

    def metrics(self, verdicts: Sequence[Verdict]) -> dict[str, float]:
        """Share right per split, and `mean_iou` over all expressions."""
        groups: dict[str, list[Verdict]] = defaultdict(list)
        overlaps = []
        for verdict in answered(verdicts):
            groups[verdict.category].append(verdict)
            said = json.loads(verdict.prediction) if verdict.prediction else (0.0,) * 4
            overlaps.append(iou(said, json.loads(verdict.truth)))
        found = {f"category/{name}": percent(group) or 0.0 for name, group in sorted(groups.items())}
        return found | ({"mean_iou": sum(overlaps) / len(overlaps)} if overlaps else {})

    def from_dataset(self, folder: Path, bundle: Path) -> None:
        """Every split of RefCOCO there is, a row per expression; its boxes are x, y, width, height.

        Its rows are not the usual ones (val has 8,811, not 10,834), so figures on it compare with lmms-eval's only.
        """
        self._convert(folder, "refcoco", bundle / self.home)

    def from_further_dataset(self, dataset: str, folder: Path, bundle: Path) -> None:
        """The same for RefCOCO+ and RefCOCOg."""
        self._convert(folder, FURTHER[dataset], bundle / self.home)

    def _convert(self, folder: Path, part: str, home: Path) -> None:
        splits = [split for split in ("val", "testA", "testB", "test") if datasets.parts(folder, split)]
        if not splits:
            raise DataError(f"{folder}: no parquet file of val, testA, testB or test")
        for split in splits:
            write_jsonl(home / f"{part}_{split}.jsonl", list(self._from_split(folder, split, home)))

    def _from_split(self, folder: Path, split: str, home: Path) -> Iterator[dict[str, Any]]:
        from PIL import Image

        for row in datasets.rows(folder, split, ["question_id", "answer", "bbox", "image"]):
            # Objects of one image are rows of their own: named by content, they are one cluster in all splits.
            name = f"data/{datasets.digest_name(datasets.image_bytes(row['image'], str(row['question_id'])))}"
            datasets.save_image(home, name, row["image"])
            with Image.open(home / name) as image:
                width, height = image.size
            x, y, w, h = row["bbox"]
            known = {"image": name, "bbox": [x, y, x + w, y + h], "width": width, "height": height}
            expressions = row["answer"] if isinstance(row["answer"], list) else [row["answer"]]
            yield from (known | {"sent": sentence} for sentence in expressions)


class RefCOCOImage(RefCOCO):
    """As lmms-eval publishes it: fractions of the image, unpadded."""

    name = "refcoco.lmms-image-v1"
    title = "RefCOCO/+/g (fractions of the image)"
    rule = "refcoco.lmms-image-v1"
    sets = frozenset()
    source = "lmms-eval tasks/refcoco"
    convention = "mean over the splits there are; boxes in fractions of the unpadded image"
    box_space = "image"
    rules_by_space = {}
    prompt = LMMS + REGION

    def target(self, region: Region) -> Box:
        """The true box in fractions of the image's width and height."""
        x1, y1, x2, y2 = region.box
        return x1 / region.width, y1 / region.height, x2 / region.width, y2 / region.height

    def to_pixels(self, box: Box, width: int, height: int) -> Box:
        """A box in fractions of the image as pixels of it."""
        x1, y1, x2, y2 = box
        return x1 * width, y1 * height, x2 * width, y2 * height


class RefCOCOAny(RefCOCO):
    """VLMEvalKit's rule: fractions, thousandths or pixels of the image, recognised by the largest number."""

    name = "refcoco.vlmevalkit-v1"
    title = "RefCOCO/+/g (VLMEvalKit's rule)"
    rule = "refcoco.vlmevalkit-v1"
    sets = frozenset()
    source = "VLMEvalKit RefCOCO"
    convention = "mean over the splits there are; fractions, thousandths or pixels of the image, clipped to it"
    box_space = "any"
    rules_by_space = {}

    def target(self, region: Region) -> Box:
        """The true box in pixels of the image."""
        return region.box

    def to_pixels(self, box: Box, width: int, height: int) -> Box:
        """The box itself: `parse` gives pixels already."""
        return box

    def parse(self, text: str, region: Region) -> Box | None:
        """The first bracketed four numbers, else the first four anywhere; scaled to pixels, clipped and ordered."""
        found = _BRACKETED.search(text)
        numbers = found.groups() if found else re.findall(_LOOSE, text)[:4]
        if len(numbers) < 4:
            return None
        box = _box(numbers)
        scale_x, scale_y = self.scales(box, region)
        xs = sorted(min(max(value * scale_x, 0.0), region.width) for value in box[::2])
        ys = sorted(min(max(value * scale_y, 0.0), region.height) for value in box[1::2])
        return xs[0], ys[0], xs[1], ys[1]

    def scales(self, box: Box, region: Region) -> tuple[float, float]:
        """By what x and y of an answer are multiplied to give pixels of the image."""
        largest = max(map(abs, box))
        unit = 1.0 if largest <= 1.5 else 1000.0 if largest <= 1000 else None
        return (1.0, 1.0) if unit is None else (region.width / unit, region.height / unit)


def _region(row: dict[str, Any]) -> Region | None:
    """The row's box and size; None if it is not a box inside its image (x, y, w, h often is not)."""
    try:
        box = _box(row["bbox"])
        width, height = float(row["width"]), float(row["height"])
    except (TypeError, ValueError):
        return None
    whole = 0 <= box[0] < box[2] <= width + 1 and 0 <= box[1] < box[3] <= height + 1
    return Region(box, width, height) if whole else None


def _box(numbers: Sequence[Any]) -> Box:
    x1, y1, x2, y2 = (float(number) for number in numbers)
    return x1, y1, x2, y2
