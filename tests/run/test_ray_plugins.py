"""Methods that are not headwise's own, answered by workers on Ray: a file of `--plugin`, and an entry point."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("ray") is None:
    pytest.skip("Ray is not installed", allow_module_level=True)

from headwise.study import plugins

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = re.compile(r'^```python title="tail_mass\.py"\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@pytest.fixture
def method() -> str:
    """The source of docs/extending.md's own strategy."""
    found = EXAMPLE.search((ROOT / "docs/extending.md").read_text(encoding="utf-8"))
    assert found is not None
    return found.group(1)


@pytest.mark.slow
def test_workers_know_plug_ins_and_entry_points(tmp_path: Path, method: str) -> None:
    (tmp_path / "tail_mass.py").write_text(method)
    package = tmp_path / "site/other_mass-1.0.dist-info"
    package.mkdir(parents=True)
    (tmp_path / "site/other_mass.py").write_text(method.replace('"tail_mass"', '"other_mass"'))
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: other_mass\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[headwise.methods]\nother_mass = other_mass\n")
    found = [_answers(tmp_path, name, words) for name, words in (("one", ""), ("two", "--engine ray --workers 1"))]
    assert len(found[0]) == 5  # with vanilla, all heads and random tokens
    assert found[0] == found[1]


def _answers(folder: Path, name: str, words: str) -> list[str]:
    """What the study's cells answer, in a store of its own."""
    (folder / name).mkdir()
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "HEADWISE_"))}
    search = os.pathsep.join([str(ROOT / "src"), "../site"])  # relative: workers begin in another folder
    environment = inherited | {"PYTHONPATH": search, "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    study = "--plugin ../tail_mass.py --strategy tail_mass,other_mass --tokens 200 --heads 8 --benchmark gqa --limit 2"
    command = [sys.executable, "-m", "headwise", "evaluate", *study.split(), *words.split()]
    done = subprocess.run(command, cwd=folder / name, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return sorted(path.read_text() for path in (folder / name).glob("mlruns/**/answers.jsonl"))


def test_a_plug_in_is_loaded_from_its_content_alone(tmp_path: Path, method: str) -> None:
    code = (
        "import sys; from pathlib import Path; import headwise.methods;"
        "from headwise.study import plugins; from headwise.methods.heads import version_of;"
        "plugins.load_sources({Path('/not/on/this/host/tail_mass.py'): sys.stdin.buffer.read()});"
        "print(version_of('tail_mass'), len(plugins.sources()))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, input=method, capture_output=True, text=True, check=False
    )
    assert re.fullmatch(r"1\+[0-9a-f]{16} 1", done.stdout.strip()), done.stderr


def test_a_plug_in_sent_twice_is_loaded_once(tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_modules", {})
    monkeypatch.setattr(plugins, "_sources", {})
    monkeypatch.setattr(plugins, "_takers", [lambda _: 1])
    monkeypatch.delenv(plugins.VARIABLE, raising=False)
    sent = {tmp_path / "sent_twice.py": b"number = 1\n"}
    plugins.load_sources(sent)
    plugins.load_sources(sent)
    assert plugins.sources() == sent
    monkeypatch.delitem(sys.modules, "plugin_sent_twice")
