"""Where a study's benchmarks are, and whether they are all there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from headwise import embedded, names
from headwise.benchmarks import benchmark
from headwise.benchmarks.files import KeyedBenchmark
from headwise.environment import expanded
from headwise.errors import DataError
from headwise.hf_data import PREFIX, bundle_from_datasets
from headwise.reading import check_square
from headwise.records import Sample

EMBEDDED = "embedded"

OFFICIAL: dict[str, dict[str, int]] = {
    "textvqa": {"questions": 5000, "labels": 5000, "images": 3166},
    "mme": {"questions": 2374, "labels": 2374, "images": 1187},
    "gqa": {"questions": 12578, "labels": 12578, "images": 398},
    "pope": {"questions": 8910, "labels": 8910, "images": 500},
}
OFFICIAL_CATEGORIES = {"pope": {"adversarial": 3000, "popular": 3000, "random": 2910}}

BUNDLE = "unpack LLaVA's eval.zip (docs/Evaluation.md of LLaVA) so that DIR is its playground/data/eval"
FIXES: dict[str, dict[str, str]] = {
    "textvqa": {
        "labels": "put TextVQA_0.5.1_val.json (textvqa.org/dataset) into textvqa/",
        "images": "unpack train_val_images.zip (textvqa.org/dataset) in textvqa/, which makes textvqa/train_images/",
    },
    "mme": {
        "labels": "unpack MME_Benchmark_release_version (from MME's page) in MME/: its *.txt files are the labels",
        "images": "unpack MME_Benchmark_release_version (from MME's page) in MME/: one folder a category",
    },
    "gqa": {
        "labels": "unpack questions1.2.zip (GQA's download page) in gqa/data/, for testdev_balanced_questions.json",
        "images": "unpack images.zip (GQA's download page) into gqa/data/images/",
    },
    "pope": {
        "labels": "take coco_pope_*.json from POPE's repository at the commit named in LLaVA's docs/Evaluation.md: "
        "later releases have other questions",
        "images": "unpack COCO's val2014.zip into pope/val2014/",
    },
}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is wrong in a bundle, and what mends it."""

    what: str
    fix: str


@dataclass(frozen=True, kw_only=True)
class Check:
    """What a bundle has of one benchmark: questions, questions with a label, whole images; and what is wrong."""

    benchmark: str
    found: Mapping[str, int]
    official: Mapping[str, int] | None
    problems: list[Problem] = field(default_factory=list)


def data_folder(data_dir: str | Path, benchmarks: Sequence[str] = names.BENCHMARKS) -> Path:
    """The bundle folder that `data_dir` means: `embedded`, a folder, `hf:` or `hf:FOLDER` (converted once).

    Only the named benchmarks are looked for in Hugging Face datasets. DataError where there is no such folder.
    """
    if str(data_dir) == EMBEDDED:
        return embedded.DATA_DIR
    if str(data_dir).startswith(PREFIX):
        return bundle_from_datasets(str(data_dir).removeprefix(PREFIX), benchmarks)
    folder = expanded(data_dir, "data_dir")
    if not folder.is_dir():
        allowed = f"{EMBEDDED}, a bundle's playground/data/eval, {PREFIX} or {PREFIX}FOLDER"
        raise DataError(f"data_dir: {data_dir} is not a folder (allowed: {allowed})")
    return folder


def check_benchmark(
    name: str, data_dir: Path, progress: Callable[[list[Path]], Iterable[Path]] = iter
) -> Check:
    """Look at every question, label and image of one benchmark.

    `progress` wraps the list of images, which takes longest. Only truncation is looked for in images, not
    every pixel. The embedded benchmarks have counts of their own, others are held against the official ones.
    """
    bench = benchmark(name)
    assert isinstance(bench, KeyedBenchmark)
    official = None if data_dir.resolve() == embedded.DATA_DIR.resolve() else OFFICIAL[name]
    nothing = dict.fromkeys(OFFICIAL[name], 0)
    try:
        samples = bench.samples(data_dir)
    except DataError as error:
        return Check(benchmark=name, found=nothing, official=official, problems=[Problem(what=str(error), fix=BUNDLE)])
    labels, problems = _labels(bench, data_dir, samples)
    images, image_problems = _images(bench, data_dir, samples, progress)
    found = {"questions": len(samples), "labels": labels, "images": images}
    problems += image_problems
    if official:
        problems += _other_questions(name, samples)
    return Check(benchmark=name, found=found, official=official, problems=problems)


def _labels(bench: KeyedBenchmark, data_dir: Path, samples: Sequence[Sample]) -> tuple[int, list[Problem]]:
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.category, []).append(sample)
    found, problems = 0, []
    for group in groups.values():
        try:
            truth_of = bench.truths(data_dir, group)
        except DataError as error:
            problems.append(Problem(what=str(error), fix=FIXES[bench.name]["labels"]))
            continue
        lacking = [reason for sample in group if (reason := _lacks(truth_of, sample))]
        found += len(group) - len(lacking)
        if lacking:
            what = f"{len(lacking):,} of {len(group):,} questions have no label; the first: {lacking[0]}"
            problems.append(Problem(what=what, fix=FIXES[bench.name]["labels"]))
    return found, problems


def _lacks(truth_of: Callable[[Sample], object], sample: Sample) -> str:
    try:
        truth_of(sample)
    except DataError as error:
        return str(error)
    return ""


def _images(
    bench: KeyedBenchmark, data_dir: Path, samples: Sequence[Sample], progress: Callable[[list[Path]], Iterable[Path]]
) -> tuple[int, list[Problem]]:
    problems, paths = [], {}
    for image, sample in {sample.image: sample for sample in samples}.items():
        try:
            paths[bench.image_path(data_dir, sample)] = image
        except DataError as error:
            problems.append(Problem(what=str(error), fix=BUNDLE))
    states = {path: image_state(path) for path in progress(list(paths))}
    for state in ("missing", "truncated or unreadable"):
        if bad := [path for path in states if states[path] == state]:
            what = f"{len(bad):,} of {len(states):,} images are {state}; the first: {bad[0]}"
            problems.append(Problem(what=what, fix=FIXES[bench.name]["images"]))
    return sum(state == "whole" for state in states.values()), problems


def _other_questions(name: str, samples: Sequence[Sample]) -> list[Problem]:
    expected = OFFICIAL[name]["questions"]
    if len(samples) == expected:
        return []
    what = f"{len(samples):,} questions, not the official {expected:,}"
    if name in OFFICIAL_CATEGORIES:
        counts = Counter(sample.category for sample in samples)
        wanted = OFFICIAL_CATEGORIES[name].items()
        differ = [f"{category} {counts[category]:,} of {n:,}" for category, n in wanted if counts[category] != n]
        what += f" ({', '.join(differ)})"
    return [Problem(what=what, fix=f"the question file is cut short or another release: {BUNDLE}")]


def image_state(path: Path) -> str:
    """`whole`, `missing`, or `truncated or unreadable`.

    A JPEG or PNG that can be opened and ends as its format ends counts as whole; any other is decoded to see.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(8)
            file.seek(0, 2)
            file.seek(-min(12, file.tell()), 2)
            tail = file.read()
        ended = (head[:2] == b"\xff\xd8" and tail.endswith(b"\xff\xd9")) or (head[1:4] == b"PNG" and b"IEND" in tail)
        with Image.open(path) as image:  # reads the header alone, which also says how large the picture is
            check_square(image)
            if not ended:
                image.load()
    except FileNotFoundError:
        return "missing"
    except Exception:  # what Pillow raises for broken files, see `reading.read_image`
        return "truncated or unreadable"
    return "whole"
