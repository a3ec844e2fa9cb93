"""The table of the embedded study says where it is from, and the same study gives the same table."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from pathlib import Path

from click.testing import CliRunner

from headwise.cli import headwise
from headwise.system.provenance import provenance

ROOT = Path(__file__).resolve().parents[2]
STUDY = "--strategy sparsity --controls vanilla --tokens 64 --heads 8 --benchmark gqa --limit 4"


def tool():
    spec = importlib.util.spec_from_file_location("embedded_table", ROOT / "tools/embedded_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made(folder: Path, store: Path, monkeypatch) -> str:
    """The table of the study, answered in a folder of its own."""
    folder.mkdir()
    shutil.copy(store, folder / "mlflow.db")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    monkeypatch.setenv("HEADWISE_HOME", str(folder / "home"))
    monkeypatch.setenv("HEADWISE_COMMIT", "abc123")
    provenance.cache_clear()  # another study of this process may have been of another commit
    assert CliRunner().invoke(headwise, ["evaluate", *STUDY.split()]).exit_code == 0
    done = CliRunner().invoke(headwise, ["compare", "--json", "--no-report"])
    (folder / "compare.json").write_text(done.stdout)
    assert json.loads(done.stdout)["benchmarks"].keys() == {"gqa"}
    printed = CliRunner().invoke(tool().main, [str(folder / "compare.json")])
    assert printed.exception is None
    return printed.output


def test_a_small_table_is_made_twice_alike_and_says_where_it_is_from(store, empty_store, monkeypatch):
    first, second = (made(store / name, empty_store, monkeypatch) for name in ("one", "two"))
    assert first == second
    rows = first.split("\n\n")[0].splitlines()
    assert rows[0].startswith("| tokens | heads | strategy | GQA |")
    assert [row.split(" | ")[:3] for row in rows[2:]] == [["| all", "", "vanilla"], ["| 64", "8", "sparsity"]]
    form = r"^\*4 questions of each benchmark; commit abc123; .+ threads; torch [\d.+\w]+; `headwise evaluate"
    assert re.search(form, first, re.MULTILINE)
    for words in ("--benchmark gqa", "--strategy sparsity", "--controls vanilla", "--limit 4"):
        assert words in first
