"""The report of a comparison: figures, and one HTML page that needs nothing beside it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from headwise.analysis.analyse import OVERALL, Analysis
from headwise.analysis.evidence import FILE, Evidence, read_evidence
from headwise.analysis.findings import Findings
from headwise.analysis.recommendation import RULE, too_few_images
from headwise.analysis.score_tables import ScoreTable
from headwise.analysis.tables import efficiency
from headwise.report import columns, drawings, samples
from headwise.report.figures import Drawing
from headwise.report.markup import Column, HtmlTable, html_table, score_html
from headwise.report.method import METHOD
from headwise.system.wording import counted

ANSWERS = "answers.jsonl"


@dataclass(frozen=True, kw_only=True)
class Files:
    """Where the report finds what is not in the comparison.

    `artifact` gives a run's file (None where it has none of that name), `image` a question's image;
    `run_links` the address of each run in the MLflow UI, `links` named addresses for the head of the page.
    """

    artifact: Callable[[str, str], Path | None] = lambda run_id, name: None
    image: samples.ImagePath = lambda benchmark, question_id, image, prompt: None
    run_links: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Report:
    """`html`, the `figures` by file name, and the `tables` of head evidence by name."""

    html: str
    figures: dict[str, Drawing]
    tables: dict[str, pd.DataFrame]


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One benchmark (or all of them) on the page."""

    name: str
    title: str
    unit: str
    sentence: str
    figures: list[dict[str, str]]
    tables: list[HtmlTable]
    more: list[dict[str, str]]
    evidence: list[HtmlTable]


def build(analysis: Analysis, files: Files, titles: Mapping[str, str] | None = None) -> Report:
    """The report of an analysed comparison. `titles` are the benchmarks' names as people write them."""
    named = dict(titles or {}) | {OVERALL: "All benchmarks"}
    figures: dict[str, Drawing] = {}
    extra: dict[str, pd.DataFrame] = {}
    parts, browser = [], []
    for name, found in _findings(analysis).items():
        title = named.get(name, name)
        drawn = drawings.of_scores(found, title, with_costs=name == _beside_costs(analysis))
        more: dict[str, Drawing] = {}
        if name != OVERALL:
            evidence = _evidence(found.cells, files)
            maps, tables = drawings.of_evidence(found.cells, evidence, title)
            more |= maps
            extra |= {f"{key}_{name}": table for key, table in tables.items()}
            sampled = _sample(name, found, analysis, files)
            if sampled:
                verdicts = analysis.comparison.verdicts(name)
                browser.append({"title": title} | samples.for_browser(sampled, verdicts, evidence))
                more |= drawings.of_samples(sampled, verdicts, evidence, title)
        figures |= {f"{key}_{name}.png": picture for key, picture in (drawn | more).items()}
        parts.append(_part(name, title, analysis, found, drawn, more, extra, files))
    return Report(html=_render(analysis, parts, browser, files), figures=figures, tables=extra)


def _findings(analysis: Analysis) -> dict[str, Findings]:
    overall = {OVERALL: analysis.overall} if analysis.overall is not None else {}
    return {**overall, **dict(analysis.findings)}


def _beside_costs(analysis: Analysis) -> str:
    """Whose accuracy stands beside costs, as in `Analysis.beside_costs`: all benchmarks, or the only one."""
    return next(iter(_findings(analysis)), "")


def _evidence(cells: pd.DataFrame, files: Files) -> dict[str, Evidence]:
    paths = {run: files.artifact(run, FILE) for run in samples.shown(cells)["run_id"]}
    return {run: read_evidence(path) for run, path in paths.items() if path is not None}


def _sample(name: str, found: Findings, analysis: Analysis, files: Files) -> samples.Sampled | None:
    answers = {run: files.artifact(run, ANSWERS) for run in samples.shown(found.cells)["run_id"]}
    at_hand = {run: path for run, path in answers.items() if path is not None}
    if len(at_hand) < len(answers):
        return None
    return samples.sample(name, found.cells, analysis.comparison.verdicts(name), at_hand.__getitem__, files.image)


def _part(
    name: str,
    title: str,
    analysis: Analysis,
    found: Findings,
    drawn: Mapping[str, Drawing],
    more: Mapping[str, Drawing],
    extra: Mapping[str, pd.DataFrame],
    files: Files,
) -> _Part:
    digits = 0 if found.unit == "points" else 1
    shown = columns.scores(digits)
    tables = [html_table(f"scores_{name}", "Every configuration", _ranked(found.cells), shown, files.run_links)]
    if name in analysis.score_tables:
        tables[:0] = _score_tables(name, analysis.score_tables[name], digits + 1)
    if name == OVERALL and (beside := analysis.tables.get("of_vanilla")) is not None:
        tables.append(html_table("of_vanilla", BESIDE, beside, columns.beside(beside)))
    if name == _beside_costs(analysis):
        tables.append(html_table("efficiency", "Accuracy beside cost", efficiency(found), columns.EFFICIENCY))
    evidence = []
    if f"float16_{name}" in extra:
        caption = "Ranking in float16 against float64"
        evidence.append(html_table(f"float16_{name}", caption, extra[f"float16_{name}"], columns.PRECISION))
    return _Part(
        name=name,
        title=title,
        unit=found.unit,
        sentence=sentence(found),
        figures=[_embedded(picture, f"{title}: {key}") for key, picture in drawn.items()],
        tables=tables,
        more=[_embedded(picture, f"{title}: {key}") for key, picture in more.items()],
        evidence=evidence,
    )


BESIDE = "Percent of vanilla by benchmark"
BEST_OF_ROW = "{}; the best of each row is bold, ties carry an equals sign"


def _score_tables(name: str, table: ScoreTable, digits: int) -> Iterator[HtmlTable]:
    """The table of head strategies, and that of methods without heads."""
    for number, part in enumerate(table.parts()):
        caption = "Tokens × heads by strategy" if part.by_heads else "Tokens by method, without heads"
        key = f"grid_{name}" if number == 0 else f"grid_{name}_{number}"
        yield score_html(key, BEST_OF_ROW.format(caption), part, digits)


def _ranked(cells: pd.DataFrame) -> pd.DataFrame:
    return cells.sort_values("score", ascending=False, kind="stable")


def sentence(found: Findings) -> str:
    """The best configuration, and how many are statistically tied with it."""
    if found.pruned.empty:
        return "No pruned configuration was run."
    best, inside, digits = found.best, len(found.best_set()), 0 if found.unit == "points" else 1
    score = f"{best['score']:.{digits}f} {found.unit}"
    if pd.notna(best["low"]):
        score += f" [{best['low']:.{digits}f}, {best['high']:.{digits}f}]"
    known = (
        "nothing to compare it with"
        if len(found.pruned) == 1
        else too_few_images(found.images)
        if found.too_few
        else "it is significantly better than every other"
        if inside == 1
        else f"statistically tied with {counted(inside - 1, 'other', 'others')} of {len(found.pruned) - 1}"
    )
    return f"Highest: {best['configuration']} with {score}; {known}."


def _render(analysis: Analysis, parts: Sequence[_Part], browser: list[dict[str, Any]], files: Files) -> str:
    cells = analysis.comparison.cells
    models = ", ".join(map(str, dict.fromkeys(cells["model"])))
    return _template().render(
        title=f"headwise: {models}",
        subtitle=f"{counted(len(cells), 'run', 'runs')} over {', '.join(dict.fromkeys(cells['benchmark']))}",
        contents=_contents(parts, analysis),
        notes=analysis.comparison.notes,
        links=files.links,
        parts=parts,
        recommendation=_table(analysis, "recommendation", "Recommendation by token budget", columns.RECOMMENDATION),
        rule=RULE,
        general=list(_general(analysis)),
        samples=browser,
        sampling=SAMPLING,
        method=METHOD,
    )


SAMPLING = (
    f"Embedded are at most {samples.DISAGREEING + samples.OTHERS} questions a benchmark: the {samples.DISAGREEING} on "
    f"which pruned configurations disagree most (one per image), and {samples.OTHERS} spread evenly over the rest; and "
    f"at most {samples.CELLS} configurations, the best ones. Disagreement is the chance that two pruned "
    "configurations, drawn at random, answer differently (for boxes: one is right, the other is not). Click a row to "
    "see what it kept: dropped tokens are dark (bright on dark images), tokens that went into a merged row have its "
    "colour."
)


def _contents(parts: Sequence[_Part], analysis: Analysis) -> list[tuple[str, str]]:
    strategies = [("whole_grid", "Strategies")] if any(_general(analysis)) else []
    middle = [(part.name, part.title) for part in parts]
    return [("summary", "Summary"), *strategies, *middle, ("samples", "Samples"), ("method", "How to read this")]


def _general(analysis: Analysis) -> Iterator[HtmlTable]:
    for name, caption, shown in (
        ("strategies", "Strategies over the whole grid", columns.STRATEGIES),
        ("wins", "Rows won: benchmark × tokens × heads", columns.WINS),
        ("retained", "Accuracy retained at each token budget", columns.retained(analysis.tables.get("retained"))),
    ):
        table = _table(analysis, name, caption, shown)
        if table.rows:
            yield table


def _table(analysis: Analysis, name: str, caption: str, shown: list[Column]) -> HtmlTable:
    return html_table(name, caption, analysis.tables.get(name, pd.DataFrame()), shown)


def _embedded(picture: Drawing, text: str) -> dict[str, str]:
    """A PNG as a data URL."""
    return {"source": "data:image/png;base64," + base64.b64encode(picture.png).decode(), "text": text}


def _template() -> jinja2.Template:
    loader = jinja2.PackageLoader("headwise.report")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    return environment.get_template("report.html")
