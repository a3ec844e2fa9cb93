"""Dockerfile, compose.yaml and docker/MLproject: what must not be lost in them. `.ci/containers` really runs them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
PROJECT = yaml.safe_load((ROOT / "docker/MLproject").read_text())
MAIN = PROJECT["entry_points"]["main"]


def run_options(uri: str, **environment: str) -> str:
    inherited = {name: os.environ[name] for name in ("PATH", "HOME")}
    script = ROOT / "docker/run-options.sh"
    done = subprocess.run(
        [script], env=inherited | environment | {"MLFLOW_TRACKING_URI": uri}, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_nothing_that_docker_20_cannot_build():
    assert not re.search(r"^# *syntax=|<<|--link|--mount", DOCKERFILE, re.MULTILINE)


def test_requirements_come_before_the_source_and_the_commit_after_it():
    in_order = ("FROM python:3.11-slim-bookworm\n", "pip install", "COPY src", "ARG COMMIT")
    steps = [DOCKERFILE.index(text) for text in in_order]
    assert steps == sorted(steps)


def test_the_image_does_not_run_as_root():
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == ["1000:1000"]


def test_everything_that_is_copied_gets_past_dockerignore():
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [name for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.MULTILINE) for name in line.split()[:-1]]
    assert set(copied) == kept


def test_docker_env_takes_the_parameters_of_the_main_job():
    outer = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]["main"]
    assert set(MAIN["parameters"]) == set(outer["parameters"])
    assert MAIN["command"].replace("  ", " ").split() == outer["command"].split()[1:]  # but for PYTHONPATH
    assert set(re.findall(r"\{(\w+)\}", MAIN["command"])) == set(MAIN["parameters"])


def test_the_image_has_the_default_study():
    assert MAIN["parameters"]["config"]["default"] == "/headwise/configs/default.yaml"
    assert (ROOT / "configs/default.yaml").is_file()


def test_a_local_store_is_mounted_whole_at_its_own_path_as_the_user(tmp_path):
    options = run_options(f"sqlite:///{tmp_path}/mlflow.db")
    assert f"--volume {tmp_path}:{tmp_path}" in options
    assert f"--user {os.getuid()}:{os.getgid()}" in options
    assert f"--env HEADWISE_HOME={tmp_path}/.headwise" in options


def test_only_a_server_on_the_loopback_gets_the_network_of_the_host():
    assert "--network host" in run_options("http://127.0.0.1:5000")
    assert "--network" not in run_options("http://tracking.example.org:5000")


def test_compose_publishes_one_port_on_the_loopback():
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert [port.partition(":")[0] for port in ports] == ["127.0.0.1"]


def test_no_password_is_written_anywhere():
    assert "PASSWORD:" not in (ROOT / "compose.yaml").read_text()
    assert COMPOSE["services"]["database"]["environment"]["POSTGRES_PASSWORD_FILE"].startswith("/run/secrets/")
    assert (ROOT / "docker/secrets/.gitignore").read_text().startswith("*\n")


def test_the_server_names_its_hosts_and_hands_artifacts_through():
    server = (ROOT / "docker/server.sh").read_text()
    assert '--allowed-hosts "127.0.0.1:$port,localhost:$port"' in server
    assert "--artifacts-destination" in server


@pytest.mark.parametrize("name", ["compose.yaml", "docker/compose.gpu.yaml"])
def test_compose_files_are_valid(name):
    compose = shutil.which("docker-compose")
    if compose is None:
        pytest.skip("docker-compose is not installed")
    files = ["-f", "compose.yaml"] + (["-f", name] if name != "compose.yaml" else [])
    subprocess.run([compose, *files, "config", "--quiet"], cwd=ROOT, check=True)
