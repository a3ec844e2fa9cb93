"""A comparison in words and tables: Markdown for MLflow, rich tables for the console."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headwise.analysis.analyse import OVERALL, Analysis
from headwise.analysis.findings import Findings
from headwise.analysis.recommendation import RULE, too_few_images
from headwise.analysis.roles import is_reference
from headwise.analysis.score_tables import ScoreTable
from headwise.benchmarks import BENCHMARKS
from headwise.report.columns import EFFICIENCY
from headwise.system.wording import counted

HOLE = "·"
# Stands before the best scores of a row on their way to the console, where they are green.
BEST = "\0"
# Members of a best set that are named in a sentence; the tables have all of them.
NAMED = 12


def markdown(analysis: Analysis, links: dict[str, str]) -> str:
    """The comparison as one Markdown page: it is the run's note and its compare.md."""
    return "\n\n".join(part for part in _sections(analysis, links) if part) + "\n"


def _sections(analysis: Analysis, links: dict[str, str]) -> Iterator[str]:
    comparison = analysis.comparison
    models = ", ".join(dict.fromkeys(comparison.cells["model"]))
    yield f"# Comparison of {counted(len(comparison.cells), 'cell', 'cells')} ({models})"
    yield "\n".join(_best_line(name, part) for name, part in analysis.all_findings.items() if not part.pruned.empty)
    yield "\n".join(f"- Note: {note}" for note in comparison.notes)
    if not analysis.recommendation.empty:
        yield "## Recommendation\n\n" + table_markdown(_shown(analysis.recommendation)) + f"\n\n{RULE}"
    for name, part in analysis.all_findings.items():
        yield f"## {heading(name, part)}\n\n{sentence(part, analysis.score_tables.get(name))}"
        if name in analysis.score_tables:
            yield score_table_markdown(analysis.score_tables[name])
    if (beside := analysis.tables.get("of_vanilla")) is not None:
        yield "## Percent of vanilla by benchmark\n\n" + table_markdown(_shown(beside)) + "\n\n" + BESIDE
    if not (front := front_texts(analysis)).empty:
        yield "## Accuracy beside cost\n\n" + table_markdown(front) + "\n\n" + FRONT
    if not analysis.wins.empty:
        yield "## Rows won\n\n" + table_markdown(_shown(analysis.wins)) + "\n\n" + WINS
    yield "## In the MLflow UI\n\n" + "\n".join(f"- [{name}]({url})" for name, url in links.items())


def _best_line(name: str, part: Findings) -> str:
    """What the UI shows of the note before it is unfolded."""
    equals = len(part.best_set()) - 1
    if len(part.pruned) == 1:
        sure = "nothing to compare it with"
    elif part.too_few:
        sure = too_few_images(part.images)
    else:
        sure = f"statistically tied with {counted(equals, 'other', 'others')}" if equals else "significantly the best"
    return f"- {heading(name, part)}: **{part.best['configuration']}** {part.best['score']:.2f}, {sure}"


WINS = (
    "`topped`: rows of the tables above, of those with two strategies or more, in which the strategy has the "
    "highest score (ties shared); "
    "`won`, `shared`, `lost`: the same rows where the difference is significant, where the best is statistically "
    "tied with others, and where the strategy is significantly worse than another; `too_few`: rows of benchmarks "
    "with too few images to tell any two strategies apart."
)


BESIDE = (
    f"`mean` is the score of the mean over benchmarks above; a configuration that lacks a benchmark ({HOLE}) has none, "
    "since means over different benchmarks do not compare."
)


FRONT = (
    "On the Pareto front no other configuration is at least as good in score and cost and better in one of them. "
    "FLOPs and KV bytes are counted from shapes; seconds and peak bytes were measured on one question alone, by the "
    "rule in docs/statistics.md."
)


def front_texts(analysis: Analysis) -> pd.DataFrame:
    """The Pareto fronts as text; empty where no cost was logged."""
    front = analysis.tables.get("front", pd.DataFrame())
    looks = {column.name: column for column in EFFICIENCY if column.name in front}
    for name, column in looks.items():
        front = front.assign(**{name: front[name].map(column.show)})
    return front.rename(columns={name: column.title for name, column in looks.items()} | {"of_vanilla": "of_vanilla"})


def heading(name: str, part: Findings) -> str:
    """Title of a benchmark's section, with the unit of its score."""
    title = "Mean over benchmarks" if name == OVERALL else BENCHMARKS[name].title
    return f"{title} ({part.unit})"


def sentence(part: Findings, table: ScoreTable | None) -> str:
    """The best cell with its interval, its ties, and which are statistically tied with it."""
    if part.pruned.empty:
        pruned = (~is_reference(part.cells)).any()
        return "No pruned cell answered every question, so none is named the best." if pruned else "No pruned cell."
    best, members = part.best, part.best_set()["configuration"].tolist()
    score = f"Best: **{best['configuration']}** {best['score']:.2f} {_span(best)}"
    tied = [name for name in (table.best_cells() if table else []) if name != best["configuration"]]
    ties = f", tied with {', '.join(tied)}" if tied else ""
    holes = (
        f" {counted(table.holes, 'cell of the table was', 'cells of the table were')} not run ({HOLE})."
        if table and table.holes
        else ""
    )
    known = best_set_sentence(members, len(part.pruned), part.images if part.too_few else None)
    return f"{score}{ties}. {known}{holes}"


def _span(best: pd.Series) -> str:
    if pd.isna(best["low"]):
        return "(a single image gives no interval)"
    return f"[{best['low']:.2f}, {best['high']:.2f}]"


def best_set_sentence(members: list[str], candidates: int, too_few: int | None = None) -> str:
    """What the best set says; `too_few` is the number of images where that is too few to say anything."""
    if candidates == 1:
        return "Nothing to compare it with."
    if too_few is not None:
        return f"{too_few_images(too_few)}."
    if len(members) == 1:
        return f"Significantly better than {'the other one' if candidates == 2 else f'the {candidates - 1} others'}."
    rest = f" and {len(members) - NAMED} more" if len(members) > NAMED else ""
    named = ", ".join(members[:NAMED])
    return f"Best set, statistically tied with the best at 95 %: {len(members)} of {candidates}: {named}{rest}."


def score_table_markdown(table: ScoreTable) -> str:
    """The published layout, the best of each row bold, ties all bold; methods without heads in a table of their own."""
    return "\n\n".join(table_markdown(score_table_texts(part, best="**{}**")) for part in table.parts())


def score_table_texts(table: ScoreTable, best: str) -> pd.DataFrame:
    """Every value as text, `best` being the format of the best ones; a column `heads` where rows have some."""
    texts = pd.concat([table.values, table.controls], axis=1).map(_number)
    for column in map(str, table.values):
        texts[column] = texts[column].where(~table.best[column], texts[column].map(best.format))
    frame = texts.reset_index()
    if not table.by_heads:
        return frame.drop(columns="heads")
    return frame.assign(heads=[HOLE if pd.isna(heads) else heads for heads in frame["heads"]])


def table_markdown(frame: pd.DataFrame) -> str:
    """A Markdown table; names keep their underscores."""
    rows = [list(map(str, frame.columns)), ["---"] * len(frame.columns)]
    rows += [[str(value) for value in row] for row in frame.itertuples(index=False)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _shown(frame: pd.DataFrame) -> pd.DataFrame:
    numbers = frame.select_dtypes("float").columns
    return frame.assign(**{str(name): frame[name].map(_number) for name in numbers})


def _number(value: float) -> str:
    return HOLE if pd.isna(value) else f"{value:.2f}"


def print_analysis(analysis: Analysis, console: Console) -> None:
    """The same on the console: one table per benchmark, wide ones in blocks that fit."""
    for note in analysis.comparison.notes:
        console.print(f"note: {note}", style="yellow")
    for name, part in analysis.all_findings.items():
        if name in analysis.score_tables:
            _print_score_table(heading(name, part), analysis.score_tables[name], console)
        console.print(sentence(part, analysis.score_tables.get(name)).replace("**", ""), end="\n\n")
    if (beside := analysis.tables.get("of_vanilla")) is not None:
        names = [name for name in beside.columns if name not in ("strategy", "tokens", "heads")]
        title = "Percent of vanilla by benchmark" + (f", the first {NAMED}" if len(beside) > NAMED else "")
        _print_frame(title, _shown(beside[names]).head(NAMED), console)
    if not (front := front_texts(analysis)).empty:
        _print_frame("Accuracy beside cost: the Pareto fronts", front, console)
    if not analysis.wins.empty:
        _print_frame("Rows won", _shown(analysis.wins), console)
    if not analysis.recommendation.empty:
        _print_frame("Recommendation", _shown(analysis.recommendation.drop(columns="equals")), console)


def _print_score_table(title: str, table: ScoreTable, console: Console) -> None:
    for part in table.parts():
        texts = score_table_texts(part, best=f"{BEST}{{}}")
        places = [name for name in ("tokens", "heads") if name in texts]
        names = [name for name in texts.columns if name not in places]
        heading = title if part.by_heads else f"{title}: methods without heads"
        for block in _blocks(names, console.width - 7 * len(places)):
            _print_frame(heading, texts[[*places, *block]], console)
            heading = f"{heading.removesuffix(' …')} …"


def _blocks(names: list[str], width: int) -> Iterator[list[str]]:
    """Column names in groups that fit the console."""
    block: list[str] = []
    for name in names:
        if block and sum(_width(each) for each in [*block, name]) > width:
            yield block
            block = []
        block.append(name)
    yield block


def _width(name: str) -> int:
    return max(7, *(len(part) for part in _broken(name).split("\n"))) + 2


def _broken(name: str) -> str:
    """A column's heading, broken where a name may be."""
    return name.replace("_", "_\n").replace(" ", "\n")


def _print_frame(title: str, frame: pd.DataFrame, console: Console) -> None:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1), pad_edge=False)
    for name in frame.columns:
        number = frame[name].map(lambda text: str(text)[-1:].isdigit() or str(text).endswith(HOLE)).all()
        table.add_column(_broken(str(name)), justify="right" if number else "left", overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*(_cell(str(value)) for value in row))
    console.print(table)


def _cell(text: str) -> Text:
    """The text as it stands (a model's path may hold `[b]`), the best of a row in green."""
    return Text(text.removeprefix(BEST), style="bold green" if text.startswith(BEST) else "")
