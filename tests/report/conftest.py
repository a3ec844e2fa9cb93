"""A made study: verdicts as arrays, and the files of its runs (answers, evidence, images) on disk."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from headwise.benchmarks import BENCHMARKS
from headwise.stats import Aggregate

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--window-size=1200,1600"),
)


@pytest.fixture(scope="session")
def browser(tmp_path_factory) -> Iterator:
    """Chromium with a profile of its own; where it is absent tests that need it skip, with HEADWISE_CI=1 they fail."""
    webdriver = pytest.importorskip("selenium.webdriver")
    if not (CHROMIUM and DRIVER):
        leave = pytest.fail if os.environ.get("HEADWISE_CI") == "1" else pytest.skip
        leave("chromium and chromedriver are not installed (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (*QUIET, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@dataclass(frozen=True)
class MadeVerdicts:
    """What is read of a verdict matrix."""

    benchmark: str
    aggregate: Aggregate
    unit: str
    correct_CQ: np.ndarray
    prediction_CQ: np.ndarray
    predictions: list[str]
    questions: pd.DataFrame
    image_Q: np.ndarray
    category_Q: np.ndarray

    @property
    def truth_Q(self) -> np.ndarray:
        return self.questions["truth"].to_numpy()


@pytest.fixture(scope="session")
def verdicts() -> Callable[..., MadeVerdicts]:
    """Verdicts from rights and wrongs [C, Q], two questions per image, truths yes and no in turn."""

    def make(correct, benchmark="gqa") -> MadeVerdicts:
        correct = np.asarray(correct, np.float32)
        turn = np.arange(correct.shape[1])
        answers = np.where(np.isnan(correct), -1, np.nan_to_num(correct)).astype(np.int32)
        image = (turn // 2).astype(np.int32)
        questions = pd.DataFrame(
            {
                "question_id": [f"q{i}" for i in turn],
                "image": [f"{i}.png" for i in image],
                "category": "",
                "truth": np.where(turn % 2, "no", "yes"),
            }
        )
        asked = BENCHMARKS[benchmark]
        words, category = ["wrong", "right"], np.zeros_like(image)
        return MadeVerdicts(benchmark, asked.aggregate, asked.unit, correct, answers, words, questions, image, category)

    return make


@pytest.fixture(scope="session")
def cells() -> Callable[..., pd.DataFrame]:
    """One row a (strategy, tokens, heads), with the columns of a comparison."""

    def make(*named: tuple[str, int | None, int | None], **columns) -> pd.DataFrame:
        table = pd.DataFrame(named, columns=["strategy", "tokens", "heads"])
        table = table.astype({"tokens": "Int64", "heads": "Int64"})
        parts = [[str(p) for p in (t, h, s) if p is not None and not pd.isna(p)] for s, t, h in named]
        table["configuration"] = ["/".join(p) for p in parts]
        return table.assign(model="m", run_id=[f"r{i}" for i in range(len(table))], score=0.0, **columns)

    return make


@dataclass
class MadeComparison:
    """A comparison of two benchmarks with the runs' files below `folder`."""

    cells: pd.DataFrame
    made: dict[str, MadeVerdicts]
    folder: Path
    study: str = "a1b2c3"
    notes: list[str] = field(default_factory=lambda: ["a note about <b>cells</b>"])

    @property
    def benchmarks(self) -> list[str]:
        return list(self.made)

    def of(self, benchmark: str) -> pd.DataFrame:
        return self.cells[self.cells["benchmark"] == benchmark].reset_index(drop=True)

    def verdicts(self, benchmark: str) -> MadeVerdicts:
        return self.made[benchmark]

    def artifact(self, run_id: str, name: str) -> Path | None:
        path = self.folder / run_id / name
        return path if path.exists() else None

    def image(self, benchmark: str, question_id: str, image: str, prompt: str) -> Path | None:
        return self.folder / "images" / image


@pytest.fixture(scope="session")
def study(tmp_path_factory, cells, verdicts) -> MadeComparison:
    """GQA and POPE, seven cells, sixty questions; one answer and one question are HTML."""
    folder, rng = tmp_path_factory.mktemp("study"), np.random.default_rng(3)
    grid = [("vanilla", None, None)] + [(s, t, 8) for t in (192, 64) for s in ("sum", "sparsity", "random_tokens")]
    tables, made = [], {}
    for benchmark in ("gqa", "pope"):
        shares = np.array([0.9, 0.8, 0.82, 0.7, 0.6, 0.65, 0.4])
        made[benchmark] = verdicts(rng.random((7, 60)) < shares[:, None], benchmark)
        costs = {"flops": [9.0, 5, 5, 5, 3, 3, 3], "prefill_seconds": [0.9, 0.5, 0.51, 0.5, 0.3, 0.3, 0.31]}
        table = cells(*grid, benchmark=benchmark, data_dir="here", **costs)
        tables.append(table.assign(run_id=[f"{benchmark}{i}" for i in range(7)]))
        for row in tables[-1].itertuples():
            _write_run(folder / row.run_id, made[benchmark], row, rng)
    (folder / "images").mkdir()
    for number in range(30):
        Image.new("RGB", (40, 30), (8 * number, 90, 200)).save(folder / "images" / f"{number}.png")
    return MadeComparison(pd.concat(tables, ignore_index=True), made, folder)


def _write_run(folder: Path, made: MadeVerdicts, row, rng: np.random.Generator) -> None:
    folder.mkdir()
    ids = made.questions["question_id"]
    attack = f"<script>document.title='{row.configuration}'</script>"
    rows = [{"question_id": name, "prompt": f"What is <b>{name}</b>?", "text": f"{attack} {name}"} for name in ids]
    (folder / "answers.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    heads, kept = rng.random((len(ids), 32)) < 0.25, rng.random((len(ids), 576)) < 0.2
    content = {"heads_NH": np.packbits(heads, axis=1), "kept_NV": np.packbits(kept, axis=1)}
    extra = {"float16_agreement": 0.6} if row.strategy in ("sum", "sparsity") else {}
    np.savez_compressed(folder / "evidence.npz", head_count=32, visual=576, **content, **extra)
