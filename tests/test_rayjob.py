"""The KubeRay manifest of the docs: it fits RayJob's schema, its command parses, and Ray asks for the token."""

from __future__ import annotations

import copy
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

jsonschema = pytest.importorskip("jsonschema")  # Ray brings it

from headwise.cli.run import command  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
JOB = yaml.safe_load((ROOT / "docs/rayjob.yaml").read_text(encoding="utf-8"))
SCHEMA = json.loads((ROOT / "tests/golden/kubernetes/rayjob.schema.json").read_text(encoding="utf-8"))


def problems(job: dict[str, Any]) -> list[str]:
    """Where the manifest does not fit the schema."""
    validator = jsonschema.Draft202012Validator(SCHEMA)
    return ["/".join(map(str, error.path)) for error in validator.iter_errors(job)]


def test_the_manifest_fits_the_schema() -> None:
    assert not problems(JOB)


def _head(job: dict[str, Any]) -> dict[str, Any]:
    return job["spec"]["rayClusterSpec"]["headGroupSpec"]


def _worker(job: dict[str, Any]) -> dict[str, Any]:
    return job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda job: _head(job)["rayStartParams"].update({"num-gpus": 0}), "headGroupSpec/rayStartParams/num-gpus"),
        (lambda job: job["spec"].update(entryPoint="x"), "spec"),
        (lambda job: _worker(job).pop("template"), "workerGroupSpecs/0"),
        (lambda job: _worker(job)["template"]["spec"]["containers"][0].update(volumeMount=[]), "containers/0"),
        (lambda job: _head(job)["template"]["spec"]["containers"][0]["env"].append({"value": "x"}), "env/3"),
        (lambda job: job.update(apiVersion="ray.io/v1alpha1"), "apiVersion"),
    ],
)
def test_the_schema_refuses(change: Callable[[dict[str, Any]], None], where: str) -> None:
    job = copy.deepcopy(JOB)
    change(job)
    [found] = problems(job)
    assert found.endswith(where)


def test_its_command_parses_and_its_ray_asks_for_a_token() -> None:
    cluster = JOB["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        [container] = group["template"]["spec"]["containers"]
        assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in container["env"]
        assert int(group["rayStartParams"]["object-store-memory"]) >= 2e9
    words = shlex.split(JOB["spec"]["entrypoint"])
    assert words[:4] == ["python", "-m", "headwise", "run"]
    given = command.make_context("run", words[4:]).params
    assert (given["engine"], given["address"], given["device"]) == ("ray", "auto", "cuda")


def test_one_version_of_ray_everywhere() -> None:
    wanted = {line for line in (ROOT / "requirements-dev.txt").read_text().splitlines() if line.startswith("ray==")}
    assert {(ROOT / "docker/ray.txt").read_text().strip()} == wanted
    version = wanted.pop().removeprefix("ray==")
    assert JOB["spec"]["rayClusterSpec"]["rayVersion"] == version
    assert f"'ray[default]=={version}'" in (ROOT / "docs/rayjob.yaml").read_text(encoding="utf-8")
