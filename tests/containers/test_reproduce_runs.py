"""Reproducing a run: what the container is given, and what is said of answers and metrics. The engine is a fake."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from docker.errors import APIError, ImageNotFound

from headwise import tracking
from headwise.cli import headwise
from headwise.containers import docker_client
from headwise.containers.docker_client import REVISION, EngineError, device_requests
from headwise.containers.reproduce import find_original, study_command
from headwise.errors import DataError, ModelError, TrackingError
from headwise.records import write_jsonl
from headwise.study import plugins

COMMIT = "c0ffee"
ANSWERS = {"Is it red?": "yes", "What is it?": "box"}
RECORDED = {"headwise.image": "headwise:1", "headwise.commit": COMMIT, "headwise.gpus": "none"}
METRICS = {"score": 50.0, "samples": 2.0, "failed": 0.0, "missing": 0.0, "seconds": 1.5}


class FakeImage:
    def __init__(self, name, commit):
        self.id, self.name, self.labels = f"sha256:{name}", name, {REVISION: commit}


class FakeEngine:
    """Takes the place of a docker client; its containers log a cell where they are told to."""

    def __init__(self, empty_store, images=(), answers=ANSWERS, metrics=METRICS, code=0, refuses=None, digest="m1"):
        self.empty_store = empty_store
        self.of_name = {image.name: image for image in images}
        self.answers, self.metrics, self.code, self.refuses, self.digest = answers, metrics, code, refuses, digest
        self.images = self.containers = self
        self.created, self.removed = None, False

    def get(self, name):
        if name not in self.of_name:
            raise ImageNotFound(name)
        return self.of_name[name]

    def list(self, filters):
        return [i for i in self.of_name.values() if filters == {"label": f"{REVISION}={i.labels[REVISION]}"}]

    def create(self, image, command, **options):
        self.created = {"image": image, "command": command, **options}
        return self

    def start(self):
        if self.refuses:
            raise APIError("500", explanation=self.refuses)

    def logs(self, **_):
        yield b"answering\n"
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.created["working_dir"])
            shutil.copy(self.empty_store, "mlflow.db")
            for name, value in self.created["environment"].items():
                patch.setenv(name, value)
            if not self.code:
                log(Path.cwd() / "out", self.answers, self.metrics, {"model_digest": self.digest})
        yield b"the last line\n"

    def wait(self):
        return {"StatusCode": self.code}

    def remove(self, force):
        self.removed = force

    def close(self):
        pass


def log(folder, answers=ANSWERS, metrics=METRICS, params=None, strategies=("sparsity",), tags=None):
    """A study with a cell a strategy; the run ids of the cells."""
    folder.mkdir()
    rows = [{"question_id": "1", "prompt": prompt, "text": text} for prompt, text in answers.items()]
    write_jsonl(folder / "answers.jsonl", rows)
    (folder / "versions.json").write_text(json.dumps({"commit": COMMIT}))
    settings = {"model": "embedded", "data_dir": "embedded", "data_digest": "d1", "model_digest": "m1"}
    settings |= {"benchmark": "gqa", "tokens": 64, "heads": 8, "layer": 2, "seed": 0, "device": "auto"}
    with tracking.open_study({}) as study:
        return [
            tracking.log_cell(
                study,
                params=settings | {"strategy": strategy} | (params or {}),
                metrics=metrics,
                tags=RECORDED | (tags or {}),
                folder=folder,
                dataset={"name": "gqa", "digest": "d1", "source": "embedded"},
                note="",
            )
            for strategy in strategies
        ]


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    """An initialised mlflow.db: making one takes seconds, copying it does not."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
        tracking.connect()
    return path


@pytest.fixture
def store(tmp_path, empty_store, monkeypatch):
    """The working folder of a test, with a tracking store of its own in it."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path


@pytest.fixture
def engine(empty_store, monkeypatch):
    """Put a fake engine in place of docker's client."""

    def put(**options):
        fake = FakeEngine(empty_store, **{"images": [FakeImage("headwise:1", COMMIT)], **options})
        fake.ping = lambda: True
        monkeypatch.setattr(docker_client.DockerClient, "from_env", staticmethod(lambda: fake))
        return fake

    return put


def reproduce(*arguments):
    return CliRunner().invoke(headwise, ["reproduce", *arguments])


def test_the_same_answers_and_metrics_reproduce_whatever_the_time_they_took(store, engine):
    (cell,) = log(store / "cell")
    fake = engine(metrics=METRICS | {"seconds": 99.0})
    result = reproduce(cell)
    assert result.exit_code == 0, result.output
    assert "reproduced: 1 of 1 cells are identical (2 answers compared)" in result.stdout
    assert fake.removed


def test_another_answer_does_not_reproduce_and_is_shown(store, engine):
    (cell,) = log(store / "cell")
    engine(answers=ANSWERS | {"What is it?": "ball"})
    result = reproduce(cell)
    assert result.exit_code == 1
    assert "'box' → 'ball'" in result.stdout
    assert "NOT reproduced: 0 of 1" in result.stdout


def test_a_lost_answer_and_another_metric_do_not_reproduce(store, engine):
    (cell,) = log(store / "cell")
    engine(answers={"Is it red?": "yes"}, metrics=METRICS | {"score": 49.0})
    result = reproduce(cell)
    assert result.exit_code == 1
    assert "'box' → no answer" in result.stdout
    assert "score 50 → 49" in " ".join(result.stdout.split())


def test_what_the_container_gets(store, engine):
    (cell,) = log(store / "cell", tags={"headwise.gpus": "0,1"})
    fake = engine()
    assert reproduce(cell).exit_code == 0
    given = fake.created
    assert given["image"] == "sha256:headwise:1"
    assert given["network_mode"] == "none"
    assert given["volumes"] == {given["working_dir"]: {"bind": given["working_dir"], "mode": "rw"}}
    assert given["device_requests"] == device_requests("0,1")
    assert given["environment"]["HF_HUB_OFFLINE"] == "1"
    assert not Path(given["working_dir"]).exists()


def test_plug_in_files_are_mounted_read_only_and_loaded_in_the_container(store, engine, monkeypatch):
    for name, nothing in (("_modules", {}), ("_sources", {}), ("_takers", [lambda _: 1])):
        monkeypatch.setattr(plugins, name, nothing)
    monkeypatch.setenv(plugins.VARIABLE, "")
    (cell,) = log(store / "cell")
    (store / "mounted_here.py").write_text("NAME = 'here'\n")
    fake = engine()
    assert reproduce(cell, "--plugin", "mounted_here.py").exit_code == 0
    path = str(store / "mounted_here.py")
    assert fake.created["volumes"][path] == {"bind": path, "mode": "ro"}
    assert fake.created["environment"][plugins.VARIABLE] == path


def test_devices_are_asked_for_as_docker_run_does():
    assert device_requests("none") == []
    assert device_requests("all")[0] == {
        "Driver": "",
        "Count": -1,
        "DeviceIDs": [],
        "Capabilities": [["gpu"]],
        "Options": {},
    }
    assert device_requests("0,2")[0]["DeviceIDs"] == ["0", "2"]


def test_a_study_is_one_command_over_its_cells(store):
    cells = log(store / "cell", strategies=("vanilla", "sparsity", "sum"), params={"limit": 2})
    original = find_original(tracking.study_of(cells[0]))
    command = study_command(original, "/data", "/model")
    options = dict(zip(command[4::2], command[5::2], strict=True))
    assert command[:4] == ["python", "-m", "headwise", "evaluate"]
    assert options["--strategy"] == "vanilla,sparsity,sum"
    assert options["--controls"] == "none"
    assert (options["--tokens"], options["--heads"], options["--limit"]) == ("64", "8", "2")
    assert (options["--data-dir"], options["--model"]) == ("/data", "/model")


def test_no_engine_is_one_clear_line(store, monkeypatch):
    (cell,) = log(store / "cell")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{store}/no.sock")
    with pytest.raises(EngineError, match=r"no Docker engine answers at unix://.*no\.sock"):
        raise reproduce(cell).exception


def test_without_the_image_the_way_to_build_it_is_named(store, engine):
    (cell,) = log(store / "cell")
    engine(images=[FakeImage("headwise:1", "other")])
    with pytest.raises(EngineError, match=rf"has headwise:1 of commit other.*git checkout {COMMIT}"):
        raise reproduce(cell).exception


def test_any_image_of_the_commit_will_do(store, engine):
    (cell,) = log(store / "cell")
    fake = engine(images=[FakeImage("renamed", COMMIT)])
    assert reproduce(cell).exit_code == 0
    assert fake.created["image"] == "sha256:renamed"


def test_other_data_is_found_before_a_container_is_made(store, engine, bundle):
    (cell,) = log(store / "cell", params={"data_dir": str(bundle)})
    fake = engine()
    with pytest.raises(DataError, match="gqa in .* differs from the data of run"):
        raise reproduce(cell).exception
    assert fake.created is None


def test_data_is_mounted_read_only_where_it_is(store, engine, bundle):
    from headwise.benchmarks import benchmark
    from headwise.run.tasks import question_keys
    from headwise.study.cells import fingerprint

    digest = fingerprint(question_keys("gqa", bundle, benchmark("gqa").samples(bundle)))
    (cell,) = log(store / "cell", params={"data_dir": str(bundle), "data_digest": digest})
    fake = engine()
    with pytest.raises(DataError, match="fingerprint d1"):  # the fake answers from other data
        raise reproduce(cell).exception
    assert fake.created["volumes"][str(bundle)] == {"bind": str(bundle), "mode": "ro"}
    assert fake.created["command"][fake.created["command"].index("--data-dir") + 1] == str(bundle)


def test_other_weights_in_the_image_are_not_compared(store, engine):
    (cell,) = log(store / "cell")
    engine(digest="m2")
    with pytest.raises(ModelError, match="m2, recorded m1"):
        raise reproduce(cell).exception


def test_a_container_that_fails_says_its_last_line_and_is_removed(store, engine):
    (cell,) = log(store / "cell")
    fake = engine(code=2)
    with pytest.raises(EngineError, match="exit code 2: the last line"):
        raise reproduce(cell).exception
    assert fake.removed


def test_an_engine_without_gpus_says_what_the_run_used(store, engine):
    (cell,) = log(store / "cell", tags={"headwise.gpus": "all"})
    fake = engine(refuses="could not select device driver")
    with pytest.raises(EngineError, match="cannot start it with GPUs all: could not select device driver"):
        raise reproduce(cell).exception
    assert fake.removed


def test_an_imported_run_cannot_be_reproduced(store):
    (cell,) = log(store / "cell", params={"model_digest": None})
    with pytest.raises(TrackingError, match="was imported"):
        find_original(cell)


@pytest.mark.parametrize("label", ["unknown", None])
def test_a_run_of_no_known_commit_takes_no_image_for_its_own(label):
    image = FakeImage("headwise:unknown", label)
    for name in ("headwise:unknown", None):
        with pytest.raises(EngineError, match="does not record the commit.*--image"):
            docker_client.find_image(FakeEngine(None, [image]), name, "unknown")
    with pytest.raises(EngineError, match="of commit unknown, and none that was built from commit c0ffee"):
        docker_client.find_image(FakeEngine(None, [image]), "headwise:unknown", COMMIT)
