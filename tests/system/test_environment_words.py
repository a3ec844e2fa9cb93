"""What the environment, paths and devices say, where it cannot be used: one line and exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headwise.errors import ConfigError, HeadwiseError
from headwise.run import executors
from headwise.run.executors import Scale, patience
from headwise.run.placement import Placement
from headwise.run.settings import StudySettings, load_settings
from headwise.system.cache import home
from headwise.system.environment import expanded, whole_number
from headwise.system.launcher import check_launcher
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
    with pytest.raises(ConfigError, match="WORLD_SIZE: .* is not a whole number of at least 1"):
        check_launcher()


def test_a_launcher_is_refused_by_its_first_process_with_the_command_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(ConfigError, match="RANK: 2 is not below WORLD_SIZE, 2"):
        check_launcher()
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ConfigError, match="headwise run --engine ray --workers 2"):
        check_launcher()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr("headwise.system.launcher.LINGER", 0.0)
    with pytest.raises(SystemExit) as end:
        check_launcher()
    assert end.value.code == 2
    monkeypatch.setenv("LOCAL_RANK", "0")  # the first one of another host
    with pytest.raises(ConfigError, match="headwise run --engine ray --workers 2"):
        check_launcher()
    monkeypatch.delenv("LOCAL_RANK")
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    check_launcher()
    assert whole_number("NOT_SET_ANYWHERE", 7) == 7


@pytest.mark.slow
def test_of_launched_processes_one_says_the_line(tmp_path: Path) -> None:
    """Whichever process is first to end, the launcher then ends the others."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "3", "-m", "headwise", "run"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(launcher, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    said = [line for line in done.stderr.splitlines() if line.startswith("headwise: ")]
    assert done.returncode
    assert len(said) == 1, done.stderr
    assert "`headwise run --engine ray --workers 3`" in said[0]
    assert not list(tmp_path.iterdir())


@pytest.fixture
def with_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command line says is checked alike, whether or not the extra is installed."""
    monkeypatch.setattr(executors, "find_spec", lambda name: name)


@pytest.mark.parametrize("value", ["soon", "0", "nan", ""])
def test_patience_is_a_number_of_seconds(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWISE_PATIENCE", value)
    with pytest.raises(ConfigError, match="HEADWISE_PATIENCE"):
        patience()


@pytest.mark.parametrize(
    ("devices", "options", "says"),
    [
        (None, {"workers": 2}, "engine: local is one process and takes no --workers"),
        (None, {"address": "auto", "engine": "local"}, "takes no --address"),
        (None, {"data_on_workers": True}, "takes no --data-on-workers"),
        ("cpu,cpu", {"engine": "local"}, "devices: each gets a worker; use --engine ray"),
        ("cpu,0", {}, "devices: cpu, cuda:0 are of two kinds"),
        ("0,0,1", {}, "name every GPU equally often"),
        ("0,1", {"workers": 4}, "no --workers"),
        (None, {"engine": "ray", "workers": 0}, "workers: 0 is not a positive number"),
        (None, {"engine": "ray", "address": "somewhere"}, "address: 'somewhere' is not auto or HOST:PORT"),
    ],
)
def test_what_contradicts_itself_about_workers_is_one_line(
    devices: str | None, options: dict[str, Any], says: str, with_ray: None
) -> None:
    with pytest.raises(ConfigError, match=says):
        Scale.of(Placement.of(devices), **options)


def test_without_ray_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"engine: Ray is not installed; `pip install 'headwise\[ray\]'`"):
        Scale.of(Placement.of("cpu,cpu"))


def test_several_devices_mean_ray(with_ray: None) -> None:
    assert Scale.of(Placement.of("cpu,cpu")) == Scale(engine="ray", workers=2, devices=("cpu", "cpu"))
    assert Scale.of(Placement.of("0,0,1,1")).workers_per_gpu == 2
    assert Scale.of(Placement.of("cpu")).engine == "local"
    assert Scale.of(Placement.of("0,1", "auto")).engine == "local"


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
