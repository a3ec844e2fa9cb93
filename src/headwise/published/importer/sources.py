"""Which cells a tree of answers holds, and their answers.

ANSWERS_DIR/…/<split>/<checkpoint>/<method>/vtn_<tokens>[_<heads>][_<strategy>]/
    merge.jsonl, or its chunks 8_0.jsonl … 8_7.jsonl     answers in LLaVA's form (need a data_dir)
    OCR.txt, artwork.txt, …                              MME's answers with their labels
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from headwise.benchmarks import mme
from headwise.errors import DataError, HeadwiseError
from headwise.published.importer.names import read_name
from headwise.records import read_answers
from headwise.study.cells import fingerprint

# What a broken file raises, whatever is broken: no such file stops an import, it is named and passed over. ValueErrors
# are undecodable text, lone surrogates and numbers of thousands of digits; RecursionErrors JSON nested too deep.
UNREADABLE = (HeadwiseError, OSError, ValueError, RecursionError)
SHOWN = 3
CHUNK = re.compile(r"(\d+)_(\d+)\.jsonl")
MERGED = "merge.jsonl"
SPLIT_WORDS = {"textvqa": "textvqa", "gqa": "gqa", "pope": "pope", "mme": "mme"}


@dataclass(frozen=True, kw_only=True)
class Issue:
    """Something in the tree that was not taken in as it stands, and why."""

    where: str
    what: str


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Which cell a folder holds: `tokens` is the mean a layer, `heads` None where the strategy chooses none.

    `options`: settings that have no parameter of their own, such as the least and most heads of dynamic_heads (`6-24`).
    """

    model: str
    benchmark: str
    method: str
    strategy: str
    tokens: int
    heads: int | None
    options: str = ""

    @property
    def name(self) -> str:
        """Name of the cell in the study's own form: its parts that are known, joined by `-`."""
        parts = (self.benchmark, self.tokens, self.heads, self.strategy, self.options or None)
        return "-".join(str(part) for part in parts if part is not None)

    def params(self) -> dict[str, Any]:
        """Its parts as parameters of a run; no `options` where it has none, as cells were logged before there were."""
        return {name: value for name, value in asdict(self).items() if name != "options" or value}


@dataclass(frozen=True, kw_only=True)
class Source:
    """A cell's answers as found; `labelled` where MME's own tool wrote them, with the label beside each."""

    identity: Identity
    folder: Path
    labelled: bool
    digest: str

    def rows(self) -> list[dict[str, str]]:
        """The answers as LLaVA-form rows (question_id, prompt, text or error, perhaps label)."""
        return read_tables(self.folder) if self.labelled else read_merged(self.folder)


def find_sources(root: Path, model: str, report: Callable[[Issue], None]) -> list[Source]:
    """The cells below `root`, one source each; what is twice there is taken once if it says the same.

    `model` names the checkpoint where no folder does. DataError where `root` is no folder.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder of answers")
    found: dict[Identity, dict[str, Source]] = defaultdict(dict)
    for folder in sorted(path for path in root.rglob("vtn_*") if path.is_dir()):
        try:
            for source in _sources(folder, root, model, report):
                found[source.identity].setdefault(source.digest, source)
        except UNREADABLE as error:
            report(Issue(where=_below(folder, root), what=one_line(error)))
    return list(_single(found, root, report))


def _single(
    found: Mapping[Identity, Mapping[str, Source]], root: Path, report: Callable[[Issue], None]
) -> Iterator[Source]:
    for cell, versions in found.items():
        if len(versions) == 1:
            yield from versions.values()
        else:
            folders = ", ".join(_below(source.folder, root) for source in versions.values())
            what = f"{len(versions)} different sets of answers ({folders}); none taken"
            report(Issue(where=cell.name, what=what))


def _sources(folder: Path, root: Path, model: str, report: Callable[[Issue], None]) -> Iterator[Source]:
    """The sources in one cell folder: usually one, two where MME's tables lie beside merged answers."""
    parts = folder.relative_to(root.parent).parts[:-1]
    tables = read_tables(folder)
    merged = read_merged(folder, lambda text: report(Issue(where=_below(folder, root), what=text)))
    if not tables and not merged:
        raise DataError("holds neither merge.jsonl, nor chunks of it, nor MME's <category>.txt")
    if tables:
        yield _source(identity(folder.name, parts, mme.MME.name, model), folder, tables, labelled=True)
    if merged:
        yield _source(identity(folder.name, parts, _benchmark_of(parts), model), folder, merged, labelled=False)


def _source(cell: Identity, folder: Path, rows: list[dict[str, str]], labelled: bool) -> Source:
    digest = fingerprint(cell.params(), _content(cell.benchmark, rows))
    return Source(identity=cell, folder=folder, labelled=labelled, digest=digest)


def _content(benchmark: str, rows: Iterable[Mapping[str, str]]) -> list[list[Any]]:
    """What the rows say, in one wording for both of MME's forms and in one order."""
    mine = benchmark == mme.MME.name
    keys = [mme.question_of(r["question_id"], r["prompt"]) if mine else (r["question_id"], r["prompt"]) for r in rows]
    said = [[row.get("text", "").strip(), row.get("error", "")] for row in rows]
    return sorted([*key, *words] for key, words in zip(keys, said, strict=True))


def read_tables(folder: Path) -> list[dict[str, str]]:
    """Rows of MME's answer tables in the folder, one file per category (empty where there is none)."""
    paths = [path for path in sorted(folder.glob("*.txt")) if path.stem in mme.QUESTIONS]
    return [row for path in paths for row in mme.table_answers(path)]


def read_merged(folder: Path, say: Callable[[str], None] = lambda text: None) -> list[dict[str, str]]:
    """Rows of `merge.jsonl`, or of all its chunks in order (empty where neither is there).

    `say` gets a line about malformed rows, which are left out. DataError where a chunk is missing, chunks are of
    different splits, or merged file and chunks differ.
    """
    whole = folder / MERGED
    chunks = _chunks(folder, (lambda text: None) if whole.exists() else say)
    merged = [asdict(row) for row in read_answers(whole, say)] if whole.exists() else []
    if merged and chunks and sorted(map(repr, merged)) != sorted(map(repr, chunks)):
        raise DataError(f"{MERGED} and its chunks differ; none taken (answers: {len(merged)} and {len(chunks)})")
    return merged or chunks


def _chunks(folder: Path, say: Callable[[str], None]) -> list[dict[str, str]]:
    found = [(path, CHUNK.fullmatch(path.name)) for path in sorted(folder.glob("*.jsonl"))]
    named = [(int(match[1]), int(match[2]), path) for path, match in found if match]
    numbered = {(total, part): path for total, part, path in named}
    if not numbered:
        return []
    totals = {total for total, _ in numbered}
    if len(totals) > 1:
        raise DataError(f"chunks of different splits ({', '.join(map(str, sorted(totals)))} parts); none taken")
    total = totals.pop()
    if wrong := [path.name for _, part, path in named if part >= total or numbered[total, part] != path]:
        chunks = f"{total}_0.jsonl to {total}_{total - 1}.jsonl"
        raise DataError(f"{wrong[0]} is none of the chunks {chunks}, or is there twice")
    # A file's name can say any number of chunks: they are counted, and only the first missing ones named.
    if missing := total - len(numbered):
        absent = (f"{total}_{part}.jsonl" for part in range(total) if (total, part) not in numbered)
        more = f" and {missing - SHOWN} more" if missing > SHOWN else ""
        raise DataError(f"{len(numbered)} of {total} chunks; missing: {', '.join(islice(absent, SHOWN))}{more}")
    return [asdict(row) for part in range(total) for row in read_answers(numbered[total, part], say)]


def identity(name: str, parts: Sequence[str], benchmark: str, model: str) -> Identity:
    """What folder names say; `parts` are the folders above the cell's, outermost first."""
    method = parts[-1] if parts else ""
    cell = read_name(name, method)
    return Identity(
        model=next((part for part in reversed(parts) if _is_checkpoint(part)), model),
        benchmark=benchmark,
        method=method,
        strategy=cell.strategy,
        tokens=cell.tokens,
        heads=cell.heads,
        options=cell.options,
    )


def one_line(error: BaseException) -> str:
    """What an error says, without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def _is_checkpoint(part: str) -> bool:
    """`llava-v1.5-7b` is one, `llava_gqa_testdev_balanced` a split."""
    return part.lower().startswith("llava-")


def _benchmark_of(parts: Sequence[str]) -> str:
    for part in reversed(parts):
        for word, benchmark in SPLIT_WORDS.items():
            if word in re.split(r"[^a-z0-9]+", part.lower()):
                return benchmark
    raise DataError(f"no folder above names a benchmark ({', '.join(SPLIT_WORDS)})")


def _below(path: Path, root: Path) -> str:
    return str(path.relative_to(root))
