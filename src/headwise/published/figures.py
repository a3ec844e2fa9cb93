"""The published figures as a baseline: best cells, holes, ours − published, other methods beside ours.

No figure is written here: they are read from `configs/published` (or another folder with the same files).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import product
from pathlib import Path

import pandas as pd

from headwise.analysis.roles import is_method
from headwise.errors import ConfigError, DataError
from headwise.study import names
from headwise.study.cells import LARGEST
from headwise.system.environment import expanded
from headwise.system.packaged import configs
from headwise.system.reading import read_text

PUBLISHED = "published"
FOLDER = configs() / PUBLISHED
SCORES, METHODS, MISPRINTS = "head_strategy_scores.csv", "methods.csv", "misprints.csv"
INSIDE = "methods_inside.csv"
# Which metric of the published table is `Scorecard.score` (the same units).
HEADLINE = {"textvqa": "accuracy", "mme": "total", "gqa": "accuracy", "pope": "f1"}
# MME's perception half, which many papers print instead of the total.
PERCEPTION = "mme_p"
OURS = "this comparison"
CELL = ["benchmark", "tokens", "heads", "strategy"]
# What is there once of methods of which several lineages are known.
SOURCED = ["method", "tokens", "source"]
# Controls of ours that other papers report as methods.
SAME_METHOD = {"vanilla": "vanilla", "all_heads": "FastV"}


@dataclass(frozen=True, kw_only=True)
class Published:
    """Published figures.

    `scores`: one row per published cell (benchmark, tokens, heads, strategy, score). `methods`: one row per method,
    budget and benchmark (method, tokens, benchmark, score, source). `inside`: the same of methods inside the language
    model, where lineages disagree by 5 to 10 points: several rows per method, told apart by their source. `misprints`:
    cells that the report prints a score for (`printed`) though they never ran; empty where nothing is known of any.
    """

    scores: pd.DataFrame
    methods: pd.DataFrame
    misprints: pd.DataFrame
    inside: pd.DataFrame

    def every_cell(self) -> pd.DataFrame:
        """Every cell of the study's full grid in the order it ran, `score` NaN where it never did (a hole)."""
        tokens, heads = (_falling(self.scores[name]) for name in ("tokens", "heads"))
        full = pd.DataFrame(list(product(HEADLINE, tokens, heads, self._strategies())), columns=CELL)
        return full.merge(self.scores, on=CELL, how="left")

    def holes(self) -> pd.DataFrame:
        """The cells of the full grid without a figure."""
        cells = self.every_cell()
        return cells[cells["score"].isna()].drop(columns="score").reset_index(drop=True)

    def best(self) -> pd.DataFrame:
        """The best cell of each benchmark: the published headline."""
        rows = self.scores.loc[self.scores.groupby("benchmark", sort=False)["score"].idxmax()]
        return rows.set_index("benchmark").reindex(list(HEADLINE)).reset_index()[[*CELL, "score"]]

    def table(self, benchmark: str) -> pd.DataFrame:
        """One benchmark as published: one row per tokens × heads, one column per strategy, NaN for a hole."""
        rows = self.every_cell().query("benchmark == @benchmark")
        wide = rows.pivot(index=["tokens", "heads"], columns="strategy", values="score")
        return wide.sort_index(ascending=False)[self._strategies()]

    def differences(self, cells: pd.DataFrame) -> pd.DataFrame:
        """Ours − published, a row each cell of ours (benchmark, tokens, heads, strategy, score, perhaps its label).

        Columns: the cell, ours, published, difference, and `source`. NaN where nothing was published. Vanilla
        and FastV (`all_heads`) are held against the papers that report them.
        """
        label = ["label"] if "label" in cells else []
        ours = cells[[*CELL, *label, "score"]].rename(columns={"score": "ours"})
        papers = self._controls()
        known = pd.concat([self.scores.assign(source="the study"), papers], ignore_index=True)
        known = known.rename(columns={"score": "published"})
        rows = _keyed(ours).merge(_keyed(known)[[*_KEY, "published", "source"]], on=_KEY, how="left")
        rows["difference"] = rows["ours"] - rows["published"]
        return rows[[*ours.columns.drop("ours"), "ours", "published", "difference", "source"]]

    def beside(self, cells: pd.DataFrame) -> pd.DataFrame:
        """Other methods' scores and ours at each budget, one column per benchmark, `source` naming each row's lineage.

        Ours are the best cell of head strategies, and every method without heads under its own name.
        """
        theirs = pd.concat([self.methods, self.inside], ignore_index=True)
        rows = theirs.pivot(index=["tokens", "method", "source"], columns="benchmark", values="score").reset_index()
        joined = pd.concat([rows, _ours(cells)], ignore_index=True)
        joined = joined.sort_values("tokens", ascending=False, kind="stable")
        perception = [PERCEPTION] if PERCEPTION in joined else []
        return joined.reindex(columns=["tokens", "method", *HEADLINE, *perception, "source"]).reset_index(drop=True)

    def neighbours(self) -> pd.DataFrame:
        """Misprints with the cell that really has the printed score.

        Columns: the misprinted cell, `printed`, and `owner_tokens`, `owner_heads`, `owner_strategy`,
        `owner_score`: the next cell of the run order that has a score. A figure is a neighbour's where
        `owner_score` rounds to `printed`.
        """
        ran = self.every_cell().assign(place=lambda cells: range(len(cells)))
        rows = []
        for misprint in self.misprints.merge(ran.drop(columns="score"), on=CELL).to_dict("records"):
            after = (ran["place"] > misprint["place"]) & (ran["benchmark"] == misprint["benchmark"])
            owner = ran[after & ran["score"].notna()].iloc[0]
            rows.append(misprint | {f"owner_{name}": owner[name] for name in ("tokens", "heads", "strategy", "score")})
        return pd.DataFrame(rows).drop(columns="place")

    def _strategies(self) -> list[str]:
        present = set(self.scores["strategy"])
        return [name for name in names.PUBLISHED_STRATEGIES if name in present]

    def _controls(self) -> pd.DataFrame:
        """Vanilla and FastV of other papers as cells."""
        rows = self.methods[self.methods["method"].isin(SAME_METHOD.values())]
        strategy = rows["method"].map({method: name for name, method in SAME_METHOD.items()})
        return rows.drop(columns="method").assign(strategy=strategy, heads=None)


def _ours(cells: pd.DataFrame) -> pd.DataFrame:
    """Our rows of `Published.beside`, those of complete cells."""
    known = cells[cells["score"].notna()]
    known = known[known["complete"].astype(bool)] if "complete" in known else known
    heads = known[known["strategy"].isin(names.STRATEGIES)]
    best = heads.loc[heads.groupby(["tokens", "benchmark"])["score"].idxmax()].assign(method="headwise, best cell")
    others = known[is_method(known) & known["heads"].isna() & known["tokens"].notna()]
    label = others["label"] if "label" in others else others["strategy"]
    rows = pd.concat([best, others.assign(method="headwise, " + label.astype(str))], ignore_index=True)
    if rows.empty:
        return pd.DataFrame()
    wide = rows.drop_duplicates(["tokens", "method", "benchmark"], keep="last")
    return wide.pivot(index=["tokens", "method"], columns="benchmark", values="score").reset_index().assign(source=OURS)


_KEY = [f"key_{name}" for name in CELL]


def _keyed(rows: pd.DataFrame) -> pd.DataFrame:
    """With the cell's parts as text: a missing number must equal a missing number.

    A control is told by its name and budget, whatever was logged as its number of heads.
    """
    controls = rows["strategy"].isin(SAME_METHOD)
    keys = {f"key_{name}": rows[name].astype("string").fillna("-") for name in CELL}
    for name in ("tokens", "heads"):
        keys[f"key_{name}"] = pd.to_numeric(rows[name]).astype("Int64").astype("string").fillna("-")
    keys["key_heads"] = keys["key_heads"].mask(controls, "-")
    keys["key_tokens"] = keys["key_tokens"].mask(rows["strategy"] == "vanilla", "-")
    return rows.assign(**keys)


def _falling(values: pd.Series) -> list[int]:
    return sorted(values.unique().tolist(), reverse=True)


def read_published(source: str | Path = PUBLISHED) -> Published:
    """The published figures of `configs/published`, or of a folder or scores file of the same form.

    ConfigError where there is none, DataError where a file is no such table.
    """
    path = FOLDER if str(source) == PUBLISHED else expanded(source, "against")
    folder, scores = (path.parent, path) if path.is_file() else (path, path / SCORES)
    if not scores.is_file():
        raise ConfigError(f"against: no {SCORES} in {path} (allowed: {PUBLISHED}, or a folder or file of that form)")
    found = _headlines(_read(scores, [*CELL, "metric", "value"], ["tokens", "heads", "value"], [*CELL, "metric"]))
    if found.empty:
        wanted = ", ".join(f"{metric} of {name}" for name, metric in HEADLINE.items())
        raise DataError(f"{scores}: holds no score that can be compared ({wanted})")
    methods = ["method", "tokens", *HEADLINE, "source"]
    return Published(
        scores=found,
        methods=_long(_read(folder / METHODS, methods, ["tokens", *HEADLINE], ["method", "tokens"])),
        inside=_long(_read(folder / INSIDE, [*methods, PERCEPTION], ["tokens", *HEADLINE, PERCEPTION], SOURCED)),
        misprints=_read(folder / MISPRINTS, [*CELL, "printed"], ["tokens", "heads", "printed"], CELL),
    )


def _read(path: Path, columns: list[str], numbers: Sequence[str], key: list[str]) -> pd.DataFrame:
    """The file's columns; an empty table of them where a folder has scores but not this file.

    `numbers` are columns of numbers, of which `tokens` and `heads` are whole; `key` names a row, which must be there
    once. DataError names the file, the row and what is wrong.
    """
    if not path.is_file():
        return pd.DataFrame(columns=columns)
    try:
        table = pd.read_csv(StringIO(read_text(path)))
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path}: is empty; expected the columns {', '.join(columns)}") from error
    except ValueError as error:  # pandas' parser errors are ValueErrors
        raise DataError(f"{path}: is no table of text ({' '.join(str(error).split())[:200]})") from error
    if missing := [name for name in columns if name not in table]:
        raise DataError(f"{path}: lacks the column {', '.join(missing)}")
    table = table[columns].copy()
    for name in numbers:
        table[name] = _numbers(table[name], path, blank=name in (*HEADLINE, PERCEPTION))
    if (twice := table.duplicated(key)).any():
        row = ", ".join(str(part) for part in table.loc[twice, key].iloc[0])
        raise DataError(f"{path}, line {_line(twice)}: {row} was there before; each row must be there once")
    return table


def _numbers(column: pd.Series, path: Path, blank: bool) -> pd.Series:
    """The column as numbers; blanks only where `blank`."""
    numbers = pd.to_numeric(column, errors="coerce")
    wrong = numbers.isna() & (column.notna() | (not blank)) | numbers.abs().eq(float("inf"))
    wanted = "a number"
    if column.name in ("tokens", "heads"):
        wrong, wanted = wrong | (numbers % 1 != 0) | (numbers.abs() > LARGEST), "a whole number"
    if wrong.any():
        raise DataError(f"{path}, line {_line(wrong)}: {column.name} {str(column[wrong].iloc[0])!r} is not {wanted}")
    return numbers.astype("int64") if wanted == "a whole number" else numbers.astype(float)


def _line(rows: pd.Series) -> int:
    """The line of a file of the first row that is True; the header is line 1."""
    return int(rows.to_numpy().argmax()) + 2


def _headlines(table: pd.DataFrame) -> pd.DataFrame:
    wanted = table["metric"] == table["benchmark"].map(HEADLINE)
    return table[wanted].rename(columns={"value": "score"}).drop(columns="metric").reset_index(drop=True)


def _long(methods: pd.DataFrame) -> pd.DataFrame:
    keys = ["method", "tokens", "source"]
    return methods.melt(id_vars=keys, var_name="benchmark", value_name="score").dropna(subset="score")
