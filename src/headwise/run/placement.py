"""Where a study is computed. None of this changes an answer, so none of it is part of a study's settings."""

from __future__ import annotations

import re
from dataclasses import dataclass

from headwise.errors import ConfigError
from headwise.models.checkpoint import Checkpoint, Vlm, pick_device
from headwise.run.settings import StudySettings

DEVICE = re.compile(r"\d+|cpu|cuda:\d+")
DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Devices (`0,2` for cuda:0 and cuda:2), how a model is spread over them, and whether pickles are read.

    Without `device_map` each worker holds the whole model on one device; with it one process spreads the
    model over all of `devices`. `made_on` (cpu or cuda) is where the answers of a study were made already: it is
    logged from any machine, whatever devices that has.
    """

    devices: tuple[str, ...] = ()
    device_map: str | None = None
    allow_pickle: bool = False
    made_on: str | None = None

    @classmethod
    def of(cls, devices: str | None = None, device_map: str | None = None, allow_pickle: bool = False) -> Placement:
        """From the command line; ConfigError for what is no device."""
        names = [name.strip() for name in (devices or "").split(",") if name.strip()]
        for name in names:
            if not DEVICE.fullmatch(name):
                raise ConfigError(f"devices: {name!r} is not a GPU's number, cuda:NUMBER or cpu, such as 0,2")
        if device_map is not None and device_map not in DEVICE_MAPS:
            raise ConfigError(f"device_map: {device_map!r} is not one of {', '.join(DEVICE_MAPS)}")
        return cls(
            devices=tuple(f"cuda:{name}" if name.isdigit() else name for name in names),
            device_map=device_map,
            allow_pickle=allow_pickle,
        )

    def check(self, study: StudySettings) -> None:
        """ConfigError where the study's own `device`, which its runs record, is none of `devices`."""
        kind = study.device.partition(":")[0]
        if study.device == "auto" or not self.devices:
            return
        if any(name.partition(":")[0] != kind for name in self.devices) or (
            ":" in study.device and set(self.devices) != {study.device}
        ):
            given = ", ".join(self.devices)
            raise ConfigError(f"devices: {given} contradicts device {study.device}; give one of the two")

    def device(self, study: StudySettings) -> str:
        """The device of this process: the first of `devices`, else the study's own."""
        return self.devices[0] if self.devices else study.device

    def kind(self, study: StudySettings) -> str:
        """The kind of device: cpu or cuda."""
        return self.made_on or pick_device(self.device(study)).type

    def load(self, checkpoint: Checkpoint, study: StudySettings) -> Vlm:
        """The checkpoint on this process's device, or spread over all of them."""
        return Vlm(
            checkpoint,
            study.dtype,
            self.device(study),
            allow_pickle=self.allow_pickle,
            device_map=self.device_map,
            devices=self.devices,
        )
