"""Boxes as a family of models answers them: which rule of a grounding benchmark reads them."""

from __future__ import annotations

import logging

from headwise.benchmarks import BENCHMARKS, Benchmark
from headwise.errors import ConfigError
from headwise.models import FAMILIES
from headwise.models.checkpoint import Checkpoint
from headwise.run.settings import StudySettings

log = logging.getLogger(__name__)


def suited(study: StudySettings, checkpoint: Checkpoint) -> StudySettings:
    """The study with the rule that reads the family's boxes, where a benchmark is named without a rule.

    LLaVA-1.5 answers in fractions of the padded square, InternVL in thousandths of the image: by the other's rule
    right boxes are wrong. A rule that is named is kept.

    Raises:
        ConfigError: a rule that scales boxes back from another image size than the study's.
    """
    names = list(dict.fromkeys(_rule_for(BENCHMARKS[name], checkpoint) for name in study.benchmark))
    for name in names:
        _check(BENCHMARKS[name], checkpoint)
    return study if names == study.benchmark else study.model_copy(update={"benchmark": names})


def _rule_for(bench: Benchmark, checkpoint: Checkpoint) -> str:
    family = FAMILIES[checkpoint.family]
    name = bench.rules_by_space.get(family.box_space, bench.name)
    if name != bench.name:
        log.warning(
            "%s: %s answers in other coordinates, so it is asked and scored as %s", bench.name, family.title, name
        )
    return name


def _check(bench: Benchmark, checkpoint: Checkpoint) -> None:
    limits = checkpoint.image_options
    if bench.image_limits and bench.image_limits != limits:
        needed = ", ".join(f"{name}={value}" for name, value in bench.image_limits.items())
        given = ", ".join(f"{name}={value}" for name, value in limits.items()) or "none"
        raise ConfigError(f"benchmark: {bench.name} scales boxes back from images of {needed}; the study has {given}")
