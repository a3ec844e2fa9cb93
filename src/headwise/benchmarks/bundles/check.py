"""Locate a study's benchmarks and check that they are complete."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from headwise import embedded
from headwise.benchmarks import Benchmark, Counts, KeyedBenchmark, Problem, benchmark, default_names, named_sets
from headwise.benchmarks.bundles.hf import PREFIX, bundle_from_datasets
from headwise.benchmarks.bundles.misplaced import found_elsewhere, misplaced
from headwise.errors import DataError
from headwise.records import Sample
from headwise.system.environment import expanded
from headwise.system.reading import check_square

EMBEDDED = "embedded"

BUNDLE = "unpack LLaVA's eval.zip (docs/Evaluation.md of LLaVA) so that DIR is its playground/data/eval"


@dataclass(frozen=True, kw_only=True)
class Check:
    """State of one benchmark in a bundle: questions, questions with a label, intact images; and defects.

    `notes` are remarks that are not defects, such as counts that differ from the literature's.
    """

    benchmark: str
    found: Mapping[str, int]
    official: Mapping[str, int] | None
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    embedded: bool = False


def data_folder(data_dir: str | Path, benchmarks: Sequence[str] | None = None) -> Path:
    """The bundle folder that `data_dir` means: `embedded`, a folder, `hf:` or `hf:FOLDER` (converted once).

    Only the named benchmarks (none named: the published four) are looked for in Hugging Face datasets.
    DataError if there is no such folder.
    """
    benchmarks = named_sets()["published"] if benchmarks is None else benchmarks
    if str(data_dir) == EMBEDDED:
        return embedded.DATA_DIR
    if str(data_dir).startswith(PREFIX):
        return bundle_from_datasets(str(data_dir).removeprefix(PREFIX), benchmarks)
    folder = expanded(data_dir, "data_dir")
    if not folder.is_dir():
        allowed = f"{EMBEDDED}, a bundle's playground/data/eval, {PREFIX} or {PREFIX}FOLDER"
        raise DataError(f"data_dir: {data_dir} is not a folder (allowed: {allowed})")
    return folder


def chosen_benchmarks(data_dir: str, asked: str | None) -> list[str]:
    """The benchmarks that `asked` names (names and sets, separated by commas); None: those that `data_dir` has.

    ConfigError for an unknown name.
    """
    sets = named_sets()
    if asked is None:
        folder = embedded.DATA_DIR if data_dir == EMBEDDED else Path(data_dir).expanduser()
        held = [name for name in default_names() if (home := benchmark(name).home) and (folder / home).is_dir()]
        same_files = {benchmark(name).without_ocr for name in held}
        return [name for name in held if name not in same_files] or sets["published"]
    sets["all"] = sets["embedded"] if data_dir == EMBEDDED else default_names()
    named = (part.strip() for part in asked.split(","))
    return list(dict.fromkeys(benchmark(each).name for part in named for each in sets.get(part, [part])))


def check_benchmark(name: str, data_dir: Path, progress: Callable[[list[Path]], Iterable[Path]] = iter) -> Check:
    """Check every question, label and image of one benchmark.

    `progress` wraps the list of images, which takes longest. Images are checked for truncation, not decoded
    fully. Counts are compared with the official ones, or with the embedded benchmarks' own.
    """
    bench = benchmark(name)
    own = data_dir.resolve() == embedded.DATA_DIR.resolve()
    official = None if own else bench.official
    expected = official.as_dict() if official else None
    try:
        samples = bench.samples(data_dir)
    except DataError as error:
        problems = misplaced(bench, data_dir) or [Problem(what=str(error), fix=_fix(bench, "questions"))]
        nothing = {"questions": 0, "labels": 0, "images": 0}
        return Check(benchmark=name, found=nothing, official=expected, problems=problems)
    labels, problems = _labels(bench, data_dir, samples)
    images, image_problems = _images(bench, data_dir, samples, progress)
    problems += [*image_problems, *bench.check_layout(data_dir)]
    notes = []
    if official and (differing := _other_questions(bench, official, samples)):
        if official.known_from == "counted":
            problems.append(differing)
        else:
            notes.append(f"{differing.what}; the number is from the {official.known_from}, so this may be right")
    found = {"questions": len(samples), "labels": labels, "images": images}
    return Check(benchmark=name, found=found, official=expected, problems=problems, notes=notes, embedded=own)


def _fix(bench: Benchmark, part: str) -> str:
    return bench.fixes.get(part, BUNDLE)


def _labels(bench: Benchmark, data_dir: Path, samples: Sequence[Sample]) -> tuple[int, list[Problem]]:
    if not isinstance(bench, KeyedBenchmark):
        return len(samples), []  # judged without an answer key, so there is nothing to check
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.category, []).append(sample)
    found, problems = 0, []
    for group in groups.values():
        try:
            truth_of = bench.checked_truths(data_dir, group)
        except DataError as error:
            problems.append(Problem(what=str(error), fix=_fix(bench, "labels")))
            continue
        lacking = [reason for sample in group if (reason := _lacks(truth_of, sample))]
        found += len(group) - len(lacking)
        if lacking:
            what = f"{len(lacking):,} of {len(group):,} questions {_have(lacking)} no label; the first: {lacking[0]}"
            problems.append(Problem(what=what, fix=_fix(bench, "labels")))
    return found, problems


def _lacks(truth_of: Callable[[Sample], object], sample: Sample) -> str:
    try:
        truth_of(sample)
    except DataError as error:
        return str(error)
    return ""


def _images(
    bench: Benchmark, data_dir: Path, samples: Sequence[Sample], progress: Callable[[list[Path]], Iterable[Path]]
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
            what = f"{len(bad):,} of {len(states):,} images {_are(bad)} {state}; the first: {bad[0]}"
            all_missing = state == "missing" and len(bad) == len(states)
            tail = 1 if len({path.name for path in bad}) == len(bad) else len(Path(paths[bad[0]]).parts)
            moved = found_elsewhere(data_dir, bad[0], tail) if all_missing else ""
            problems.append(Problem(what=what, fix=moved or _fix(bench, "images")))
    return sum(state == "whole" for state in states.values()), problems


def _are(things: Sequence[object]) -> str:
    return "is" if len(things) == 1 else "are"


def _have(things: Sequence[object]) -> str:
    return "has" if len(things) == 1 else "have"


def _other_questions(bench: Benchmark, official: Counts, samples: Sequence[Sample]) -> Problem | None:
    if len(samples) == official.questions:
        return None
    what = f"{len(samples):,} questions, not the official {official.questions:,}"
    if bench.official_categories:
        counts = Counter(part for sample in samples for part in {sample.category, sample.category.split("/")[0]})
        wanted = bench.official_categories.items()
        differ = [f"{category} {counts[category]:,} of {n:,}" for category, n in wanted if counts[category] != n]
        what += f" ({', '.join(differ)})"
    return Problem(what=what, fix=f"the question file is truncated or of another release: {_fix(bench, 'questions')}")


def image_state(path: Path) -> str:
    """`whole`, `missing`, or `truncated or unreadable`.

    A JPEG or PNG that opens and has its end marker counts as whole; other formats are decoded.
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
