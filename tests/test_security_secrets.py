"""Passwords and tokens never reach a message, a link or a tag."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from headwise.errors import TrackingError
from headwise.system.redaction import without_secrets, without_userinfo
from headwise.tracking.connection import connect
from headwise.tracking.links import runs_url
from headwise.tracking.pending import tracking_place

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


HOSTILE = ["p@SeCrEt", "SeCrEt/p", "SeCr/SeCrEt@x", "SeCrEt#p@y", "p?SeCrEt", "12/SeCrEt", "SeCrEt%40x", "a:SeCrEt"]


@pytest.mark.parametrize("password", HOSTILE)
@pytest.mark.parametrize("scheme", ["http", "postgresql", "mysql+pymysql"])
def test_no_part_of_a_password_is_left_whatever_is_in_it(scheme: str, password: str) -> None:
    uri = f"{scheme}://anna:{password}@host:5000/x"
    for text in (without_secrets(uri), without_secrets(f"server {uri}: no answer"), without_userinfo(uri)):
        assert "SeCr" not in text
        assert "p@" not in text
        assert text.startswith((f"{scheme}://", "server "))
    assert without_secrets(f"server {uri}: no answer").endswith(": no answer") or "?" in password


@pytest.mark.parametrize("value", ["SeCrEt", "SeCrEt/x", "x@SeCrEt", "x#SeCrEt", "SeCrEt@a/b?c"])
@pytest.mark.parametrize("name", ["password", "sslpassword", "access_token", "api_key", "sig", "PWD"])
def test_secrets_in_a_query_are_cut_out(name: str, value: str) -> None:
    for uri in (f"postgresql://host:5432/db?user=anna&{name}={value}", f"http://host:5000?{name}={value}&x=1"):
        assert "SeCrEt" not in without_secrets(f"store {uri} is gone")
        assert "SeCrEt" not in without_userinfo(uri)


@pytest.mark.parametrize(
    "uri", ["s3://bucket/a@b/c", "sqlite:////home/anna@work/mlflow.db", "http://host:5000/#/experiments/1?orderByKey=x"]
)
def test_addresses_without_a_secret_stay_as_they_are(uri: str) -> None:
    assert without_secrets(uri) == uri


def test_the_password_of_the_tracking_server_is_known_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://anna:Se%40CrEt/x@host/db")
    assert without_secrets("authentication of Se@CrEt/x (Se%40CrEt/x) failed") == "authentication of *** (***) failed"


@pytest.mark.parametrize("password", ["SeCr/Et", "SeCr#Et", "SeCr?Et", "p@SeCr/Et"])
def test_an_http_password_that_no_client_can_read_is_refused(monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://anna:{password}@127.0.0.1:9")
    with pytest.raises(TrackingError, match="write %2F, %3F or %23") as caught:
        connect()
    assert "SeCr" not in str(caught.value)
    assert "SeCr" not in tracking_place()


def test_a_driver_s_error_carries_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for uri in ("postgresql://anna:SeCr@Et/x@host/db", "nonsense://host?password=SeCrEt@x"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(TrackingError) as caught:
            connect()
        assert "SeCr" not in str(caught.value)
        assert "Et" not in str(caught.value)


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
