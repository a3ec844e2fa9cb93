"""What the environment, paths and devices say, where it cannot be used: one line and exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from headwise.errors import ConfigError, HeadwiseError
from headwise.run.placement import Placement
from headwise.run.settings import StudySettings, load_settings
from headwise.run.shards import crew
from headwise.system.cache import home
from headwise.system.environment import expanded, whole_number
from headwise.system.locks import held

ROOT = Path(__file__).resolve().parents[2]
NOBODY = "~no-such-user-here/x"


@pytest.mark.parametrize("name", ["HEADWISE_HOME", "HEADWISE_CACHE"])
def test_the_name_of_no_user_is_one_line(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from headwise.benchmarks.bundles.hf import cache_folder

    monkeypatch.setenv(name, NOBODY)
    with pytest.raises(ConfigError, match=f"{name}: {NOBODY} begins with the name of no user"):
        (home if name == "HEADWISE_HOME" else cache_folder)()


@pytest.mark.parametrize("source", [NOBODY, f"hf:{NOBODY}"])
def test_a_data_dir_of_no_user_is_one_line(source: str) -> None:
    from headwise.benchmarks.bundles.check import data_folder

    with pytest.raises(HeadwiseError, match=f"data_dir: {NOBODY} begins with"):
        data_folder(source)
    assert expanded("~", "x") == Path.home()


@pytest.mark.parametrize("value", ["abc", "", "-1", "0", "2.5", "٣"])
def test_the_number_of_processes_is_a_number(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", value)
    with pytest.raises(ConfigError, match="WORLD_SIZE: .* is not a whole number of at least 1"), crew():
        pass


def test_ranks_fit_the_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="WORLD_SIZE: 2, but the launcher set not all else"), crew():
        pass
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(ConfigError, match="RANK: 2 is not below WORLD_SIZE, 2"), crew():
        pass
    monkeypatch.setenv("LOCAL_RANK", "first")
    with pytest.raises(ConfigError, match="LOCAL_RANK: 'first'"):
        Placement().device(StudySettings())
    assert whole_number("NOT_SET_ANYWHERE", 7) == 7


@pytest.mark.parametrize("device", ["meta", "tpu", "cuda:", "cuda:one", "CPU", "0", ""])
def test_a_device_that_is_none_is_one_line(device: str) -> None:
    with pytest.raises(ConfigError, match="device: .* is not auto, cpu, cuda or cuda:NUMBER"):
        load_settings(None, {"device": device})


@pytest.mark.parametrize(
    ("devices", "device", "fits"),
    [
        ("cpu", "cuda", False),
        ("0", "cpu", False),
        ("0,1", "cuda:0", False),
        ("cpu,0", "cuda", False),
        ("cpu,cpu", "cpu", True),
        ("0,1", "cuda", True),
        ("1", "cuda:1", True),
        ("0", "auto", True),
        (None, "cuda", True),
    ],
)
def test_devices_and_the_device_that_is_recorded_are_the_same(devices: str | None, device: str, fits: bool) -> None:
    placement, study = Placement.of(devices), StudySettings(device=device)
    if fits:
        placement.check(study)
    else:
        with pytest.raises(ConfigError, match=f"devices: .* contradicts device {device}"):
            placement.check(study)


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        (["--devices", "cpu", "--device", "cuda"], {}),
        (["--device", "meta"], {}),
        ([], {"WORLD_SIZE": "abc"}),
        ([], {"HEADWISE_HOME": NOBODY}),
        ([], {"MLFLOW_TRACKING_URI": "sqlite:////"}),
    ],
)
def test_the_command_line_says_so_in_one_line(tmp_path: Path, words: list[str], environment: dict[str, str]) -> None:
    own = {"PYTHONPATH": str(ROOT / "src"), "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    command = [sys.executable, "-m", "headwise", "evaluate", "--limit", "1", *words]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | own | environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("headwise: ")
    assert done.stderr.count("\n") == 1
    name = next(iter(environment), words[0] if words else "").removeprefix("--")
    assert name in done.stderr or "is a folder" in done.stderr


def test_a_lock_of_another_user_says_whose_it_is(as_another_user) -> None:
    path = as_another_user.folder / "one.lock"
    path.touch(mode=0o400)
    owner = path.owner()
    with as_another_user, pytest.raises(ConfigError, match=rf"X: cannot lock .*one\.lock \(.* it is {owner}'s\)"):  # noqa: SIM117
        with held(path, "X"):
            pass
