"""Provenance of a run: software versions, git commit, platform."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

from headwise import __version__

LIBRARIES = ("torch", "transformers", "mlflow", "accelerate", "numpy", "pillow")


@cache
def provenance() -> dict[str, str]:
    """Versions of headwise and its libraries, the git commit (with `-dirty`), the platform, the image if any."""
    found = {"headwise": __version__, "commit": commit(), "python": platform.python_version()}
    found |= {name: version(name) for name in LIBRARIES}
    found["platform"] = platform.platform()
    if image := os.environ.get("HEADWISE_IMAGE"):
        found["image"] = image
    return found


def commit() -> str:
    """The commit of the checkout this code runs from, or what the image was built from, or `unknown`."""
    if baked := os.environ.get("HEADWISE_COMMIT"):
        return baked
    folder = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
