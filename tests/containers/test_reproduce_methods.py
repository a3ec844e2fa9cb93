"""Reproducing cells of every kind: merged rows, stages, options, a CLIP, query rows, seeds. It really answers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from containers.test_reproduce_runs import FakeEngine, FakeImage
from models.clip_files import write_tiny_clip
from survival import write_bundle
from tiny_llava import write_tiny_llava

from headwise import tracking
from headwise.cli import headwise
from headwise.containers import docker_client
from headwise.containers.again import command, settings_of
from headwise.errors import ModelError
from headwise.system.provenance import provenance

COMMIT = "c0ffee"
STUDY = {
    "--benchmark": "gqa",
    "--strategy": "visionzip,sparsevlm,prumerge,vispruner,trim,pdrop,sum",
    "--controls": "vanilla,random_tokens,pool",
    "--tokens": "20,16",
    "--heads": "4",
    "--query": "last_token,text_tokens_only",
    "--budget": "kept",
    "--seed": "5",
    "--limit": "all",
    "--method-options": "prumerge.adaptive=true,vispruner.important_ratio=0.25",
    "--max-new-tokens": "3",
}


class RunningEngine(FakeEngine):
    """A docker client whose containers run their command in this process."""

    def logs(self, **_):
        given = self.created
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(given["working_dir"])
            shutil.copy(self.empty_store, "mlflow.db")
            for name, value in given["environment"].items():
                patch.setenv(name, value)
            done = CliRunner().invoke(headwise, given["command"][3:])
        self.code = done.exit_code
        yield f"{done.output}{done.exception or ''}\n".encode()


@pytest.fixture(scope="module")
def place(tmp_path_factory, empty_store) -> Iterator[Path]:
    """A working folder in which the study has been run."""
    folder = tmp_path_factory.mktemp("original")
    shutil.copy(empty_store, folder / "mlflow.db")
    write_tiny_llava(folder / "model", side=6)
    (folder / "clip").mkdir()
    write_tiny_clip(folder / "clip")
    write_bundle(folder / "eval", images=3)
    given = {"--model": folder / "model", "--data-dir": folder / "eval", "--clip": folder / "clip"}
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
            patch.delenv(name)
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("HEADWISE_HOME", str(folder / "home"))
        patch.setenv("HEADWISE_COMMIT", COMMIT)
        provenance.cache_clear()  # another study of this process may have been of another commit
        words = [str(word) for option in (given | STUDY).items() for word in option]
        done = CliRunner().invoke(headwise, ["evaluate", *words])
        assert done.exit_code == 0, done.output
        yield folder
    provenance.cache_clear()


@pytest.fixture(scope="module")
def cells(place) -> pd.DataFrame:
    return tracking.find_cells(study=tracking.LATEST)


@pytest.fixture
def engine(place, empty_store, monkeypatch) -> RunningEngine:
    fake = RunningEngine(empty_store, images=[FakeImage("headwise:1", COMMIT)])
    fake.ping = lambda: True
    monkeypatch.setattr(docker_client.DockerClient, "from_env", staticmethod(lambda: fake))
    return fake


def reproduce(run_id: str):
    return CliRunner().invoke(headwise, ["reproduce", run_id])


def test_a_study_of_methods_reproduces_cell_by_cell(engine, cells):
    assert len(cells) == 1 + 2 * 10
    result = reproduce(cells["study"].iloc[0])
    assert result.exit_code == 0, result.output
    assert "reproduced: 21 of 21 cells are identical (126 answers compared)" in result.stdout
    assert "gqa-20-4-sum text_tokens_only" in result.stdout


@pytest.mark.parametrize("strategy", ["visionzip", "sparsevlm", "prumerge", "trim", "pdrop", "random_tokens"])
def test_one_cell_reproduces_alone(engine, cells, strategy):
    row = cells[(cells["strategy"] == strategy) & (cells["tokens"] == 16)].iloc[0]
    result = reproduce(row["run_id"])
    assert result.exit_code == 0, result.output
    assert "reproduced: 1 of 1 cells are identical (6 answers compared)" in result.stdout


def test_a_clip_is_mounted_read_only_and_another_one_is_refused(engine, place, cells):
    row = cells[cells["strategy"] == "trim"].iloc[0]
    assert reproduce(row["run_id"]).exit_code == 0
    clip = str(place / "clip")
    assert engine.created["volumes"][clip] == {"bind": clip, "mode": "ro"}
    engine.created = None
    (place / "clip/extra.json").write_text("{}")
    try:
        with pytest.raises(ModelError, match="clip: .* is not the CLIP of run"):
            raise reproduce(row["run_id"]).exception
    finally:
        (place / "clip/extra.json").unlink()
    assert engine.created is None


def test_the_command_gives_every_setting_as_the_command_line_takes_it(cells):
    given = settings_of(cells)
    assert given["limit"] == "all"
    assert given["seed"] == "5"
    assert set(given["query"].split(",")) == {"last_token", "text_tokens_only"}
    assert set(given["options"].split(",")) == {"prumerge.adaptive=True", "vispruner.important_ratio=0.25"}
    assert (set(given["tokens"].split(",")), given["heads"]) == ({"20", "16"}, "4")
    words = command(given)
    assert words[words.index("--method-options") + 1] == given["options"]
    assert "--options" not in words


def test_shares_and_strategies_without_seeds_or_queries():
    rows = [{"strategy": "fastv", "tokens": 0.25, "heads": None, "seed": 0, "budget": "kept", "limit": 3}]
    table = pd.DataFrame(rows).astype({"tokens": "Float64", "heads": "Float64", "limit": "Int64"})
    given = {"strategy": "fastv", "tokens": "0.25", "seed": "0", "budget": "kept", "limit": "3", "controls": "none"}
    assert settings_of(table) == given
