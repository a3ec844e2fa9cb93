"""Passwords and tokens never reach a message, a link or a tag."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from headwise.pending import tracking_place
from headwise.redaction import without_secrets, without_userinfo
from headwise.tracking.links import runs_url

ROOT = Path(__file__).resolve().parents[1]


def test_user_and_password_are_cut_out_of_urls() -> None:
    text = "tracking server http://anna:s3cret@host:5000/x and postgresql://u:p@db/y"
    assert without_secrets(text) == "tracking server http://***@host:5000/x and postgresql://***@db/y"
    assert without_userinfo("https://anna:s3cret@host/") == "https://host/"


def test_values_of_secret_variables_are_cut_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefgh")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "correct horse")
    monkeypatch.setenv("PLAIN", "visible-value")
    assert without_secrets("hf_abcdefgh: correct horse, visible-value") == "***: ***, visible-value"


def test_links_and_notes_carry_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "s3cret" not in runs_url("http://anna:s3cret@host:5000", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://anna:s3cret@host:5000")
    assert tracking_place() == "http://***@host:5000"


def test_an_unreachable_server_is_named_without_its_password(tmp_path: Path) -> None:
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": "http://anna:s3cretword@127.0.0.1:9",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "PYTHONPATH": str(ROOT / "src"),
    }
    command = [sys.executable, "-m", "headwise", "compare"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 2
    assert "s3cretword" not in done.stdout + done.stderr
    assert "***@127.0.0.1:9" in done.stderr
