"""The KubeRay manifest of the docs: the kind and the fields that KubeRay's RayJob has, and a command that parses."""

from __future__ import annotations

import shlex
from pathlib import Path

import yaml

from headwise.cli.run import command

ROOT = Path(__file__).resolve().parents[1]


def test_the_manifest_is_a_rayjob_with_a_command_that_parses() -> None:
    job = yaml.safe_load((ROOT / "docs/rayjob.yaml").read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["spec"].keys() == {"entrypoint", "shutdownAfterJobFinishes", "backoffLimit", "rayClusterSpec"}
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        [container] = group["template"]["spec"]["containers"]
        environment = {each["name"]: each.get("value") for each in container["env"]}
        assert environment["RAY_AUTH_MODE"] == "token"
        assert "RAY_AUTH_TOKEN" in environment
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:2] == ["headwise", "run"]
    given = command.make_context("run", words[2:]).params
    assert (given["engine"], given["address"], given["device"]) == ("ray", "auto", "cuda")
