"""Training loop shared by all stages: optimizers, checkpoints, several processes, logs."""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from tools.embedded.muon import Muon

Metrics = dict[str, float]


@dataclass
class Stage:
    """A training stage. `step_fn(step)` returns the loss and what to log."""

    name: str
    folder: Path
    modules: nn.Module
    optimizers: list[torch.optim.Optimizer]
    step_fn: Callable[[int], tuple[Tensor, Metrics]]
    steps: int
    evaluate: Callable[[], Metrics] | None = None
    every: int = 100  # steps between checkpoints, log lines and evaluations
    warmup: int = 50
    base_rates: list[list[float]] = field(default_factory=list)

    @property
    def checkpoint(self) -> Path:
        return self.folder / f"{self.name}.pt"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.jsonl"


def optimizers_for(module: nn.Module, muon_rate: float, adam_rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the hidden matrices, AdamW for embeddings, norms, biases and heads.

    On retrieval circuits Muon needed several times fewer steps than AdamW alone.
    """
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        hidden = parameter.ndim == 2 and "layers." in name
        (matrices if hidden else others).append(parameter)
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(others, adam_rate, (0.9, 0.98), weight_decay=0.0)]
    if matrices:
        optimizers.append(Muon(matrices, muon_rate))
    return optimizers


def run_stage(stage: Stage) -> None:
    """Train to `stage.steps`, resuming from the stage's last checkpoint if there is one.

    A step's data depends only on the step number, so a resumed run sees the same data as an uninterrupted one.
    """
    stage.folder.mkdir(parents=True, exist_ok=True)
    stage.base_rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in stage.optimizers]
    start = _resume(stage)
    with _progress() as progress:
        bar = progress.add_task(stage.name, total=stage.steps, completed=start, note="")
        for step in range(start, stage.steps):
            loss, metrics = _step(stage, step)
            progress.update(bar, advance=1, note=f"loss {loss:.3f}")
            if (step + 1) % stage.every == 0 or step + 1 == stage.steps:
                _record(stage, step + 1, {"loss": loss, **metrics})


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def _step(stage: Stage, step: int) -> tuple[float, Metrics]:
    _set_rates(stage, step)
    for optimizer in stage.optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss, metrics = stage.step_fn(step)
    loss.backward()  # type: ignore[no-untyped-call]
    average_gradients(stage.modules.parameters())
    nn.utils.clip_grad_norm_(stage.modules.parameters(), 1.0)
    for optimizer in stage.optimizers:
        optimizer.step()
    return loss.item(), metrics


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average gradients over the processes, with one message per step."""
    if not dist.is_initialized():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def _set_rates(stage: Stage, step: int) -> None:
    """Linear warm-up, then cosine decay to a twentieth."""
    rise = min(1.0, (step + 1) / stage.warmup)
    fall = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / max(1, stage.steps)))
    for optimizer, rates in zip(stage.optimizers, stage.base_rates, strict=True):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * rise * fall


def _resume(stage: Stage) -> int:
    if not stage.checkpoint.exists():
        return 0
    saved = torch.load(stage.checkpoint, weights_only=True)
    stage.modules.load_state_dict(saved["modules"])
    for optimizer, state in zip(stage.optimizers, saved["optimizers"], strict=True):
        optimizer.load_state_dict(state)
    return int(saved["step"])


def _record(stage: Stage, step: int, metrics: Metrics) -> None:
    if stage.evaluate is not None:
        metrics = metrics | stage.evaluate()
    if rank() > 0:
        return
    with stage.log.open("a") as log:
        log.write(json.dumps({"step": step, **{k: round(v, 4) for k, v in metrics.items()}}) + "\n")
    state = {
        "step": step,
        "modules": stage.modules.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in stage.optimizers],
    }
    part = stage.checkpoint.with_suffix(".part")
    torch.save(state, part)
    part.replace(stage.checkpoint)  # atomic: a kill while saving must not destroy the last checkpoint


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, TextColumn("{task.fields[note]}"), disable=rank() > 0)


def in_parallel(processes: int, folder: Path, function: Callable[..., object], *arguments: object) -> None:
    """Run `function(*arguments)` in single-thread processes that average their gradients at every step.

    Threads of one process synchronise in every operation, these processes once per step, which is faster on
    cores shared with other work.
    """
    folder.mkdir(parents=True, exist_ok=True)
    meeting = folder / "rendezvous"
    meeting.unlink(missing_ok=True)
    torch.multiprocessing.spawn(_member, (processes, str(meeting), function, arguments), processes, daemon=True)


def _member(number: int, processes: int, meeting: str, function: Callable[..., object], arguments: object) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=number, world_size=processes)
    try:
        function(*arguments)  # type: ignore[misc]
    finally:
        dist.destroy_process_group()
