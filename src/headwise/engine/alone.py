"""One branch alone: what a question under one cell takes where nothing is shared with other cells or questions.

The grid answers all cells of a question in one computation whose time and memory belong to no single cell: stacks
mix questions, drafts save most of the decoding, memory is everybody's. So costs are measured on the side, on real
questions: the same code with a batch of one. A branch's work depends on how many tokens it keeps, not on which:
cells that keep equally many share one measurement (docs/statistics.md has the rule in full).
"""

from __future__ import annotations

import platform
import time
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path as File
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from headwise.engine.branches import Path, Stack
from headwise.engine.decode import Outcome
from headwise.engine.decoder import Decoder
from headwise.engine.levers import Levers
from headwise.engine.prefix import Images, Questions, System

STEPS = 3
"""Greedy steps that are timed after the first token."""
SHARE = 0.01
"""Share of the answering time that measuring may take, beyond one question a benchmark."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One question alone, `kept` visual tokens above layer `layer`.

    `prefill`: seconds from embedded image and question to the first token: the decoder's work, the prompt before
    the image at hand, without the ranking of the heads. `token`: seconds for each token after it. `peak`: bytes of
    the weights and of all that the computation held at its largest. `device`: what it was measured on.
    """

    layer: int
    kept: int
    prefill: float
    token: float
    peak: int
    device: str


class Meter:
    """Measures every width of branch on one question of each benchmark, and on more as far as SHARE allows.

    `spent` and `answering` are the seconds that measuring and answering took. The first branch of a width in a
    process is run once before it is timed: for its memory, and so that nothing is done for the first time.
    """

    def __init__(self, model: nn.Module, decoder: Decoder) -> None:
        self.decoder, self.device = decoder, decoder.home
        self.spent = self.answering = 0.0
        self._weights = sum(each.nbytes for each in (*model.parameters(), *model.buffers()))
        self._name = device_name(self.device)
        self._seen: Counter[str] = Counter()
        self._peaks: dict[tuple[int, int], int] = {}

    def due(self, benchmark: str) -> bool:
        """Whether a question of this benchmark should be measured now."""
        each = self.spent / max(1, self._seen.total())
        return not self._seen[benchmark] or self.spent + each < SHARE * self.answering

    @torch.inference_mode()
    def costs(
        self, benchmark: str, system: System, layer: int, visual_VD: Tensor, question_QD: Tensor, widths: Sequence[int]
    ) -> list[dict[str, Any]]:
        """Costs of one question for each of `widths` (kept tokens), as rows of plain values."""
        started = time.perf_counter()
        found = []
        run = _Run(self.decoder, system, layer, visual_VD[None], question_QD)
        for kept in widths:
            if (layer, kept) not in self._peaks:
                self._peaks[layer, kept] = self._weights + _peak(partial(_whole, run, kept), self.device)
        _wait(self.device)
        asked, below = run.prefix()
        for kept in widths:
            above, token = run.branch(asked, kept)
            cost = Cost(
                layer=layer,
                kept=kept,
                prefill=round(below + above, 6),
                token=round(token, 6),
                peak=self._peaks[layer, kept],
                device=self._name,
            )
            found.append(asdict(cost))
        self._seen[benchmark] += 1
        self.spent += time.perf_counter() - started
        return found


@dataclass(frozen=True)
class _Run:
    """One question to be run alone, keeping evenly spaced tokens."""

    decoder: Decoder
    system: System
    layer: int
    visual_1VD: Tensor
    question_QD: Tensor

    def prefix(self) -> tuple[Questions, float]:
        """The part below the pruning layer, which is the same for every width, and the seconds it took."""
        started = time.perf_counter()
        images = Images(self.decoder, self.system, self.visual_1VD, self.layer)
        asked = Questions(images, [self.question_QD], [0])
        _wait(self.decoder.home)
        return asked, time.perf_counter() - started

    def branch(self, asked: Questions, kept: int) -> tuple[float, float]:
        """Seconds from there to the first token, and of a token thereafter."""
        started = time.perf_counter()
        visual = asked.images.visual
        places = torch.linspace(0, visual - 1, kept, device=self.decoder.home).round().long()
        path = Path(0, None if kept == visual else places)
        return _Single(asked, [path], Levers(), STEPS + 1).seconds(started)


def _wait(device: torch.device) -> None:
    """Until the device has done what was queued, so that it is not taken for what comes next."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class _Single(Stack):
    """A stack of one branch that goes on for STEPS tokens after the first, whatever it says."""

    def seconds(self, started: float) -> tuple[float, float]:
        outcomes, accepted = self._accept([[]], self._prefill(*self._pad([[]])))
        first = time.perf_counter()  # the first token has been read, so the device is done with the prefill
        self._decode(outcomes, [0], accepted)
        return first - started, (time.perf_counter() - first) / STEPS

    def _finished(self, outcome: Outcome) -> bool:
        return len(outcome.tokens) > STEPS


def _whole(run: _Run, kept: int) -> None:
    asked, _ = run.prefix()
    run.branch(asked, kept)


def _peak(run: Callable[[], Any], device: torch.device) -> int:
    """Bytes that `run` held at most, beyond what was there before: by the allocator on CUDA, else its tensors."""
    if device.type != "cuda":
        with _Held() as held:
            run()
        return held.peak
    devices = range(torch.cuda.device_count())  # a model may be spread over several
    before = [torch.cuda.memory_allocated(each) for each in devices]
    for each in devices:
        torch.cuda.reset_peak_memory_stats(each)
    run()
    return sum(torch.cuda.max_memory_allocated(each) - start for each, start in zip(devices, before, strict=True))


class _Held(TorchDispatchMode):
    """Counts the bytes of the tensors that operations make and that are still held, and their `peak`."""

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        for tensor in _tensors((args, kwargs)):
            self._see(tensor.untyped_storage(), 0)  # was there before: weights, inputs
        out = func(*args, **kwargs)
        for tensor in _tensors(out):
            storage = tensor.untyped_storage()
            self._see(storage, storage.nbytes())
        return out

    def _see(self, storage: Any, size: int) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = size
            self.held += size
            self.peak = max(self.peak, self.held)
            weakref.finalize(storage, self._freed, key)

    def _freed(self, key: int) -> None:
        self.held -= self._sizes.pop(key)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_iter(tree) if isinstance(leaf, Tensor)]


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor's with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpu = File("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {torch.get_num_threads()} threads"
