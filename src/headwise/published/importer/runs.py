"""Sources scored here and logged as cell runs; a cell that is there already is not logged again."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from headwise import __version__, tracking
from headwise.benchmarks import benchmark, mme
from headwise.benchmarks.bundles.check import data_folder
from headwise.errors import DataError
from headwise.published.importer.logs import LogFigure, cell_key, read_logs
from headwise.published.importer.names import mean_tokens, settings
from headwise.published.importer.sources import UNREADABLE, Identity, Issue, Source, find_sources, one_line
from headwise.records import Answer, Failure, Scorecard, Verdict, write_jsonl
from headwise.run.rescore import CONTRADICTED, KEY_IN_ANSWERS, LOG_SCORE
from headwise.scoring.score import (
    ANSWERS,
    agrees,
    key_tags,
    labelled_key_tags,
    score_labelled_rows,
    score_records,
    write_verdicts,
)
from headwise.study.cells import fingerprint
from headwise.study.names import role_of

DIGEST = "headwise.import"
Progress = Callable[[Sequence[Source]], Iterable[Source]]


@dataclass
class ImportReport:
    """What an import did: runs logged, cells that were there already, and what was not taken."""

    study: str | None = None
    logged: list[tuple[Identity, Scorecard]] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A cell ready to be logged.

    `data_dir` is where its labels were, `key` the tags that say which labels and scorer they were (`score.key_tags`),
    `contradiction` what a log says instead and `log_score` the score that it says.
    """

    source: Source
    card: Scorecard
    verdicts: list[Verdict]
    data_dir: str
    key: dict[str, str]
    contradiction: str = ""
    log_score: float | None = None


def import_tree(
    root: Path, *, data_dir: str | None, experiment: str | None, model: str, progress: Progress = iter
) -> ImportReport:
    """Log every cell below `root` that the experiment does not hold yet, as one study.

    `data_dir` has the labels; without it only MME's own tables, which carry theirs, can be scored. `model` is
    the checkpoint where no folder names one. DataError where `root` holds no answers.
    """
    report = ImportReport()
    sources = find_sources(root, model, report.issues.append)
    figures = read_logs(root, model, report.issues.append)
    if not sources and not figures:
        raise DataError(f"{root}: no folder vtn_<tokens>_<heads>_<strategy> with answers below it")
    report.issues += _log_issues(figures, sources)
    known = _digests(experiment)
    report.present = [source.identity.name for source in sources if source.digest in known]
    new = [source for source in sources if source.digest not in known]
    with ExitStack() as stack:
        study: tracking.StudyRun | None = None
        for source in progress(new):
            scored = _scored(source, data_dir, figures, report)
            if scored:
                study = study or stack.enter_context(_open(root, data_dir, experiment))
                _log(study, scored, root)
                report.study = study.run_id
                report.logged.append((source.identity, scored.card))
    return report


def _open(root: Path, data_dir: str | None, experiment: str | None) -> AbstractContextManager[tracking.StudyRun]:
    params = {"source": "import", "answers": root.name, "data_dir": data_dir or KEY_IN_ANSWERS}
    return tracking.open_study(params, experiment=experiment, tags={"headwise.source": "import"})


def _digests(experiment: str | None) -> set[str]:
    """Fingerprints of the cells that earlier imports logged."""
    tracking.connect()
    try:
        cells = tracking.find_cells(experiment=experiment, include_incomplete=True)
    except tracking.NothingFound:
        return set()
    return set(cells.get(f"tags.{DIGEST}", pd.Series(dtype=str)).dropna())


def _scored(source: Source, data_dir: str | None, figures: Sequence[LogFigure], report: ImportReport) -> Scored | None:
    """The source's score; None, with an issue, where its answers cannot be scored."""
    where = source.identity.name
    try:
        scored = score_source(source, data_dir)
    except UNREADABLE as error:
        report.issues.append(Issue(where=where, what=f"not taken: {one_line(error)}"))
        return None
    if not scored.card.complete:
        what = f"incomplete: {scored.card.missing} missing and {scored.card.failed} failed answers"
        report.issues.append(Issue(where=where, what=what))
    for figure in figures:
        if figure.key == cell_key(source.identity) and _differ(scored.card, figure):
            what = f"its answers score {scored.card.score:.4f}, its log says {figure.score:g} ({figure.where})"
            report.issues.append(Issue(where=where, what=what))
            scored = replace(scored, contradiction=what, log_score=figure.score)
    return scored


def score_source(source: Source, data_dir: str | None) -> Scored:
    """Score with the labels of `data_dir`, or with its own where there is no such benchmark in it.

    DataError where there are no labels, or answers and questions do not fit.
    """
    name, rows = source.identity.benchmark, source.rows()
    folder = data_folder(data_dir, [name]) if data_dir else None
    if source.labelled and not (folder and mme.key_folder(folder).is_dir()):
        card, verdicts = score_labelled_rows(rows, str(source.folder))
        key = labelled_key_tags(rows, card)
        return Scored(source=source, card=card, verdicts=verdicts, data_dir=KEY_IN_ANSWERS, key=key)
    if folder is None:
        raise DataError("its answers carry no labels; say where they are with --data-dir")
    records = _named_as_in(folder, rows) if source.labelled else [as_answer(row) for row in rows]
    card, verdicts = score_records(name, folder, records, source=str(source.folder))
    key = key_tags(name, folder)
    return Scored(source=source, card=card, verdicts=verdicts, data_dir=str(data_dir), key=key)


def as_answer(row: Mapping[str, str]) -> Answer | Failure:
    """The record of a LLaVA-form row."""
    common = {"question_id": row["question_id"], "prompt": row["prompt"]}
    return Answer(**common, text=row["text"]) if "text" in row else Failure(**common, error=row["error"])


def _named_as_in(folder: Path, rows: Sequence[Mapping[str, str]]) -> list[Answer | Failure]:
    """Rows of MME's tables under the ids and prompts of the bundle's question file."""
    asked = {mme.question_of(s.question_id, s.prompt): s for s in benchmark(mme.MME.name).samples(folder)}
    records: list[Answer | Failure] = []
    for row in rows:
        sample = asked.get(mme.question_of(row["question_id"], row["prompt"]))
        if sample is None:
            raise DataError(f"the bundle has no question {row['prompt']!r} about {row['question_id']}")
        records.append(Answer(question_id=sample.question_id, prompt=sample.prompt, text=row["text"]))
    return records


def _differ(card: Scorecard, figure: LogFigure) -> bool:
    return not agrees(figure.cell.benchmark, card.score, figure.score)


def _log_issues(figures: Sequence[LogFigure], sources: Sequence[Source]) -> list[Issue]:
    """Cells that logs disagree about, and cells that only a log knows."""
    answered = {cell_key(source.identity) for source in sources}
    said: dict[tuple[object, ...], dict[float, LogFigure]] = defaultdict(dict)
    for figure in figures:
        said[figure.key].setdefault(figure.score, figure)
    issues = []
    for key, scores in said.items():
        first = next(iter(scores.values()))
        if len(scores) > 1:
            what = "logs say " + " and ".join(f"{f.score:g} ({f.where})" for f in scores.values())
            issues.append(Issue(where=first.cell.name, what=what))
        if key not in answered:
            what = f"only a log knows it: {first.score:g} ({first.where}); without answers it is not taken"
            issues.append(Issue(where=first.cell.name, what=what))
    return issues


def _log(study: tracking.StudyRun, scored: Scored, root: Path) -> None:
    source, cell = scored.source, scored.source.identity
    path = source.folder.relative_to(root).as_posix()
    tags = {"headwise.source": "import", "headwise.role": role_of(cell.strategy), DIGEST: source.digest} | scored.key
    if scored.contradiction:
        tags |= {"headwise.status": CONTRADICTED, LOG_SCORE: repr(scored.log_score)}
    params = (
        cell.params() | settings(cell.strategy) | {"data_dir": scored.data_dir, "source": "import", "answers": path}
    )
    with tempfile.TemporaryDirectory(prefix="headwise-") as work:
        folder = Path(work)
        write_jsonl(folder / ANSWERS, source.rows())
        write_verdicts(folder, scored.verdicts)
        (folder / "import.json").write_text(json.dumps({"headwise": __version__, **params}, indent=2), encoding="utf-8")
        tracking.log_cell(
            study,
            params=params,
            metrics=scored.card.as_metrics() | mean_tokens(cell.strategy, cell.tokens),
            tags=tags,
            folder=folder,
            dataset=_dataset(scored),
            note=_note(scored, path),
        )


def _dataset(scored: Scored) -> dict[str, Any]:
    questions = [[verdict.question_id, verdict.category, verdict.truth] for verdict in scored.verdicts]
    source = scored.data_dir if scored.data_dir != KEY_IN_ANSWERS else scored.source.folder
    return {"name": scored.source.identity.benchmark, "digest": fingerprint(questions), "source": str(source)}


def _note(scored: Scored, path: str) -> str:
    score = "no score" if scored.card.score is None else f"score {scored.card.score:.2f}"
    note = f"{scored.source.identity.name}: {score} over {scored.card.samples} answers, imported from {path}."
    return f"{note} Contradicted: {scored.contradiction}." if scored.contradiction else note
