"""A cell's run says on what it was answered, whatever the study asked for."""

from __future__ import annotations

import pytest

from headwise.run.cell_runs import answered_by
from headwise.run.evaluate import Job
from headwise.run.settings import load_settings


@pytest.mark.parametrize(("asked", "was"), [("auto", "float32"), ("bfloat16", "bfloat16")])
def test_auto_is_resolved(asked, was):
    study = load_settings(None, {"benchmark": "gqa", "limit": 1, "device": "cpu", "dtype": asked, "tokens": 192})
    assert answered_by(Job.of(study)) == {"headwise.device": "cpu", "headwise.dtype": was}
