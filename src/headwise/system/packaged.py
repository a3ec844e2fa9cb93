"""Packaged studies and published results: `configs/` at the top of a checkout.

An installed package holds them as `headwise/configs` (setup.py maps the folder); code that runs from a checkout,
by PYTHONPATH or an editable install, finds them where they are.
"""

from __future__ import annotations

from pathlib import Path

from headwise.errors import ConfigError

# The embedded study: what `headwise run` runs without options.
DEFAULT = "default"
ENDING = ".yaml"


def configs() -> Path:
    """The folder of studies (`*.yaml`) and of published results (`published/`)."""
    installed = Path(__file__).resolve().parents[1] / "configs"
    return installed if installed.is_dir() else Path(__file__).resolve().parents[3] / "configs"


def study_names() -> list[str]:
    """The names of the packaged studies."""
    return sorted(path.stem for path in configs().glob(f"*{ENDING}"))


def study_file(name: str) -> Path:
    """The study file of this name: a path if it exists, else a packaged study (`llava-1.5-7b`).

    ConfigError if there is neither.
    """
    path = Path(name)
    packaged = configs() / f"{name.removesuffix(ENDING)}{ENDING}"
    if path.is_file():
        return path
    if packaged.parent == configs() and packaged.is_file():
        return packaged
    raise ConfigError(f"config: cannot read {name} (no such file, and not one of {', '.join(study_names())})")
