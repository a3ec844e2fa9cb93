"""docs/extending.md: its very lines are run as plug-ins; a strategy is answered, scored, compared and drawn."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from tiny_vip_llava import write_tiny_vip_llava

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = re.compile(r'^```python title="(\w+\.py)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)
EXAMPLES = dict(EXAMPLE.findall((ROOT / "docs/extending.md").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A working folder that holds the page's examples as files."""
    folder = tmp_path_factory.mktemp("extending")
    for name, text in EXAMPLES.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def headwise(folder: Path, *words: str, plugins: str = "") -> subprocess.CompletedProcess:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "HEADWISE_"))}
    environment = inherited | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "HEADWISE_PLUGINS": plugins}
    environment["MLFLOW_DISABLE_TELEMETRY"] = "true"
    command = [sys.executable, "-m", "headwise", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def studied(place):
    """The folder after a study of two examples in it."""
    plugins = ("--plugin", "tail_mass.py", "--plugin", "two_steps.py")
    study = ("--strategy", "tail_mass,two_steps", "--tokens", "200", "--heads", "8", "--benchmark", "gqa")
    done = headwise(place, "run", *plugins, *study, "--limit", "2")
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture(scope="module")
def vip(place):
    """A checkpoint of the family that one of the examples drives."""
    return write_tiny_vip_llava(place / "vip")


def test_each_example_is_short():
    assert len(EXAMPLES) >= 4
    assert {name: text.count("\n") for name, text in EXAMPLES.items() if text.count("\n") >= 30} == {}


def test_strategies_and_stages_are_answered_scored_compared_and_drawn(studied):
    plugins = ("--plugin", "tail_mass.py", "--plugin", "two_steps.py")
    found = headwise(studied, "compare", *plugins, "--json", "--no-log")
    cells = {cell["strategy"]: cell for cell in json.loads(found.stdout)["benchmarks"]["gqa"]["cells"]}
    assert {"tail_mass", "two_steps"} <= cells.keys()
    assert all(0 <= cells[name]["score"] <= 100 for name in ("tail_mass", "two_steps"))
    reports = [path.read_text(encoding="utf-8") for path in studied.glob("mlruns/**/report.html")]
    assert [report.count("tail_mass") > 0 for report in reports] == [True]
    assert json.loads(found.stdout)["compare_run"] is None


def test_reading_without_logging_writes_nothing_and_says_so(studied):
    """The store is as it was after `--no-log`, and is written to without."""

    def state() -> list[tuple[str, str, float]]:
        with sqlite3.connect(studied / "mlflow.db") as store:
            return [
                *store.execute("SELECT run_uuid, 'run', coalesce(end_time, 0) FROM runs ORDER BY 1"),
                *store.execute("SELECT run_uuid, key, timestamp FROM metrics ORDER BY 1, 2, 3"),
            ]

    before = state()
    compared, scored = headwise(studied, "compare", "--no-log", "--json"), headwise(studied, "score", "--no-log")
    assert (compared.returncode, scored.returncode) == (0, 0), compared.stderr + scored.stderr
    assert state() == before
    assert "not logged" in scored.stderr
    assert "logged to these runs: http" in headwise(studied, "score").stderr
    assert state() != before
    refused = headwise(studied, "compare", "--no-log", "--report")
    assert (refused.returncode, len(refused.stderr.strip().splitlines())) == (2, 1)


def test_a_changed_formula_is_answered_anew(place):
    def digest() -> str:
        code = (
            "import headwise.methods; from headwise.study import plugins;"
            "from headwise.methods.heads import version_of;"
            "plugins.load(['tail_mass.py']); print(version_of('tail_mass'))"
        )
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        done = subprocess.run([sys.executable, "-c", code], cwd=place, env=environment, capture_output=True, text=True)
        return done.stdout.strip()

    text = EXAMPLES["tail_mass.py"]
    before = digest()
    assert re.fullmatch(r"1\+[0-9a-f]{16}", before)
    (place / "tail_mass.py").write_text("# a comment\n" + text)
    assert digest() == before
    (place / "tail_mass.py").write_text(text.replace("topk(10", "topk(12"))
    assert digest() != before
    (place / "tail_mass.py").write_text(text)


def test_a_method_before_the_language_model_reduces(place):
    code = (
        "import torch; from headwise.study import plugins; from headwise.methods import Vision, reduce;"
        "plugins.load(['strongest.py']);"
        "rows = torch.arange(10.).view(-1, 1).repeat(1, 4);"
        "print(reduce('strongest', Vision(hidden_NC=rows), 3).kept.tolist())"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], cwd=place, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "[6, 7, 8]", done.stderr  # row 0 is [CLS]


def test_a_benchmark_is_listed_and_scored(place):
    rows = [{"question_id": i, "image": "a.png", "text": "Sign?", "category": ["yes", "no"][i]} for i in range(2)]
    (place / "data/signs/images").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(place / "data/signs/images/a.png")
    (place / "data/signs/questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = [{"question_id": i, "prompt": "Sign?", "text": "Yes"} for i in range(2)]
    (place / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    score = ("score", "--answers", "answers.jsonl", "--benchmark", "signs", "--data-dir", "data", "--json")
    done = headwise(place, *score, "--plugin", "signs.py")
    assert json.loads(done.stdout)["score"] == 50.0, done.stderr
    listed = headwise(place, "list", "benchmarks", "--json", plugins="signs.py")
    assert re.fullmatch(
        r"signs/1\+[0-9a-f]{16}", {row["name"]: row for row in json.loads(listed.stdout)}["signs"]["scorer"]
    )


def test_a_family_is_checked_against_transformers_and_answers_a_study(place, vip):
    (place / "pictures").mkdir()
    for number, colour in enumerate(("red", "blue")):
        Image.radial_gradient("L").convert("RGB").save(place / f"pictures/{number}{colour}.png")
    plugin = ("--plugin", "vip_llava.py")
    checked = headwise(place, "check-model", str(vip), "--images", "pictures", "--count", "2", *plugin)
    assert "16 of 16 agree" in checked.stdout, checked.stderr
    study = ("--model", str(vip), "--strategy", "sparsity", "--tokens", "0.5", "--heads", "0.5", "--budget", "kept")
    done = headwise(place, "run", *plugin, *study, "--controls", "none", "--benchmark", "gqa", "--limit", "2")
    assert done.returncode == 0, done.stderr
    listed = headwise(place, "list", "models", "--json", *plugin)
    assert {"name": "vip_llava", "decoders": "llama"}.items() <= {
        row["name"]: row for row in json.loads(listed.stdout)
    }["vip_llava"].items()
    refused = headwise(place, "check-model", str(vip), "--images", "pictures")
    assert (refused.returncode, len(refused.stderr.strip().splitlines())) == (2, 1)
    assert "is a 'vipllava' checkpoint, which headwise does not drive" in refused.stderr


@pytest.mark.usefixtures("vip")
def test_a_changed_family_is_answered_anew(place):
    code = (
        "import headwise.models; from headwise.study import plugins; plugins.load(['vip_llava.py']);"
        "from headwise.models.checkpoint import find_checkpoint; print(find_checkpoint('vip').prompt_version)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    text, said = EXAMPLES["vip_llava.py"], []
    for each in (text, text.replace("pooler_output[0]", "pooler_output[0] * 2"), text):
        (place / "vip_llava.py").write_text(each)
        done = subprocess.run([sys.executable, "-c", code], cwd=place, env=environment, capture_output=True, text=True)
        said.append(done.stdout.strip())
    assert re.fullmatch(r"1\+[0-9a-f]{16}", said[0])
    assert said[0] == said[2] != said[1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import nothing_of_that_name\n", "cannot be imported: ModuleNotFoundError: No module named"),
        ("x = 1\n", "defines no named method, benchmark or family"),
        (None, "is not a Python file"),
        (
            EXAMPLES["tail_mass.py"].replace('"tail_mass"', '"sparsity"'),
            "'sparsity' of plugin_mine.TailMass is a name of",
        ),
        (EXAMPLES["tail_mass.py"].replace('"tail_mass"', '"a,b"'), "'a,b' of plugin_mine.TailMass may hold"),
        (EXAMPLES["strongest.py"].replace('"strongest"', '"fastv"'), "'fastv' is the name of two classes"),
        (EXAMPLES["vip_llava.py"].replace('"vip_llava"', '"llava"'), "'llava' is the name of two classes"),
        (EXAMPLES["signs.py"].replace('"signs"', '"pope"'), "benchmark 'pope': is defined in"),
    ],
)
def test_a_plugin_that_cannot_be_taken_is_one_line(tmp_path, text, words):
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    done = headwise(tmp_path, "list", "strategies", "--plugin", "mine.py")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert words in done.stderr
