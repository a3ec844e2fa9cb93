"""Reproducing a study of a family whose images differ in V: shares, limits of image size, prompts without OCR."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from containers.test_reproduce_methods import RunningEngine
from containers.test_reproduce_runs import FakeImage
from PIL import Image
from tiny_families import write_tiny

from headwise import tracking
from headwise.cli import headwise
from headwise.containers import docker_client
from headwise.errors import ModelError
from headwise.system.provenance import provenance

COMMIT = "c0ffee"
STUDY = {
    "--benchmark": "textvqa",
    "--ocr": "false",
    "--strategy": "sparsity,fastv",
    "--controls": "vanilla,random_tokens",
    "--tokens": "0.75,0.5",
    "--heads": "0.5",
    "--min-pixels": "256",
    "--max-pixels": "2048",
    "--dtype": "bfloat16",
    "--max-new-tokens": "3",
}


@pytest.fixture
def answered(store, bundle, monkeypatch):
    """The cells of a study that has been run."""
    monkeypatch.setenv("HEADWISE_COMMIT", COMMIT)
    monkeypatch.setenv("HEADWISE_HOME", str(store / "home"))
    provenance.cache_clear()
    for path, size in zip(sorted(bundle.rglob("*.jpg")), [(90, 33), (40, 60)] * 4, strict=False):
        Image.radial_gradient("L").resize(size).convert("RGB").save(path)
    given = {"--model": str(write_tiny("qwen2_5_vl", store / "model")), "--data-dir": str(bundle)} | STUDY
    done = CliRunner().invoke(headwise, ["evaluate", *(word for pair in given.items() for word in pair)])
    assert done.exit_code == 0, done.output
    yield tracking.find_cells(study=tracking.LATEST)
    provenance.cache_clear()


def test_a_study_and_one_of_its_cells_reproduce(answered, empty_store, monkeypatch):
    fake = RunningEngine(empty_store, images=[FakeImage("headwise:1", COMMIT)])
    fake.ping = lambda: True
    monkeypatch.setattr(docker_client.DockerClient, "from_env", staticmethod(lambda: fake))
    assert set(answered["benchmark"]) == {"textvqa_no_ocr"}
    cell = answered[(answered["strategy"] == "sparsity") & (answered["tokens"] == 0.5)].iloc[0]
    for run, cells in ((answered["study"].iloc[0], 7), (cell["run_id"], 1)):
        result = CliRunner().invoke(headwise, ["reproduce", run])
        assert result.exit_code == 0, (result.output, result.exception)
        assert f"reproduced: {cells} of {cells} cells are identical ({2 * cells} answers compared)" in result.stdout
        words = fake.created["command"]
        given = dict(zip(words[4::2], words[5::2], strict=True))
        assert (given["--min-pixels"], given["--max-pixels"], given["--dtype"]) == ("256", "2048", "bfloat16")


def test_a_checkpoint_that_lies_elsewhere_now_is_named_and_must_be_the_same(answered, store, empty_store, monkeypatch):
    """Such as one that the run's own container had mounted as /model."""
    fake = RunningEngine(empty_store, images=[FakeImage("headwise:1", COMMIT)])
    fake.ping = lambda: True
    monkeypatch.setattr(docker_client.DockerClient, "from_env", staticmethod(lambda: fake))
    run = answered[answered["strategy"] == "vanilla"]["run_id"].iloc[0]
    moved = (store / "model").rename(store / "elsewhere")
    with pytest.raises(ModelError, match="model: nowhere is not a folder"):
        raise CliRunner().invoke(headwise, ["reproduce", run, "--model", "nowhere"]).exception
    other = write_tiny("qwen3_vl", store / "other")
    with pytest.raises(ModelError, match="is not the checkpoint of run"):
        raise CliRunner().invoke(headwise, ["reproduce", run, "--model", str(other)]).exception
    assert fake.created is None
    result = CliRunner().invoke(headwise, ["reproduce", run, "--model", str(moved)])
    assert result.exit_code == 0, (result.output, result.exception)
    assert fake.created["volumes"][str(moved)] == {"bind": str(moved), "mode": "ro"}
