"""One branch alone: what a question under one cell takes where nothing is shared with other cells or questions.

The grid answers all cells of a question in one computation whose time and memory belong to no single cell: stacks
mix questions, drafts save most of the decoding, memory is shared by all. So costs are measured on the side, on real
questions: the same code with a batch of one. A branch's work depends on how many tokens it keeps, not on which:
cells that keep equally many share one measurement (docs/statistics.md has the rule in full).
"""

from __future__ import annotations

import platform
import time
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path as File
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from headwise.engine import Engine, Question
from headwise.engine.branches import Stack
from headwise.engine.decode import Open, decode
from headwise.engine.grow import ImageRows, Tree, images_of, with_text
from headwise.engine.levers import Optimizations
from headwise.engine.prefix import Questions
from headwise.engine.tree import Node
from headwise.methods.stages import Stage
from headwise.models.contract import Picture
from headwise.models.decoder import Decoder
from headwise.study.cells import Cell
from headwise.study.names import CONTROLS, ranks_heads

# Greedy steps that are timed after the first token.
STEPS = 3
# Share of the answering time that measuring may take, beyond one question per benchmark.
SHARE = 0.01


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One question alone under one cell.

    `layer`, `kept`: after which layer the last stage is and what it leaves (K and V without a stage); `stages`: all of
    them, as [layer, rows]; `method`: whose choosing is in `prefill`, empty where it is not. `prefill`: seconds from
    embedded image and question to the first token: the decoder's work, the prompt before the image at hand; the
    choosing is in it but for head strategies and controls. `token`: seconds for each token after it. `peak`: bytes
    of the weights and of all that the computation held at its largest. `device`: what it was measured on.
    """

    layer: int
    kept: int
    stages: list[list[int]]
    method: str
    prefill: float
    token: float
    peak: int
    device: str


# What decides a cost: the method where its choosing is measured, its stages, and K where there are none.
Kind = tuple[str, tuple[Stage, ...], int]

# A choice before the language model, done anew at each call.
Choose = Callable[[], ImageRows]


class CostProbe:
    """Measures every kind of branch on one question of each benchmark, and on more as far as SHARE allows.

    `spent` and `answering` are the seconds that measuring and answering took. The first branch of a kind in a
    process is run once before it is timed: for its memory, and so that nothing is done for the first time.
    """

    def __init__(self, model: nn.Module, decoder: Decoder) -> None:
        """`model`'s weights and buffers count as memory of every branch; nothing is measured yet."""
        self.decoder, self.device = decoder, decoder.home
        self.spent = self.answering = 0.0
        self._weights = sum(each.nbytes for each in (*model.parameters(), *model.buffers()))
        self._name = device_name(self.device)
        self._seen: Counter[str] = Counter()
        self._peaks: dict[Kind, int] = {}

    def due(self, benchmark: str) -> bool:
        """Whether a question of this benchmark should be measured now."""
        each = self.spent / max(1, self._seen.total())
        return not self._seen[benchmark] or self.spent + each < SHARE * self.answering

    @torch.inference_mode()
    def measure(
        self,
        benchmark: str,
        engine: Engine,
        image: Tensor | Picture,
        question_QD: Tensor,
        choices: Sequence[Choose | None] = (),
    ) -> list[dict[str, Any]]:
        """Costs of one question under each kind of the engine's cells, as rows of plain values.

        `choices`: per cell how it chooses before the language model, None where it does not. It is timed, from the
        tower's signals to rows; cells that choose there and have no such entry are not measured.
        """
        started = time.perf_counter()
        found = []
        visual = ImageRows.whole(image).visual
        runs = [
            _Run(engine, kind, engine.cells[column], image, question_QD, choices[column] if choices else None)
            for kind, column in _kinds(engine, visual, choices).items()
        ]
        for run in runs:
            if run.kind not in self._peaks:
                self._peaks[run.kind] = self._weights + _peak(run.seconds, self.device)
        for run in runs:
            _wait(self.device)
            prefill, token = run.seconds()
            method, stages, layer = run.kind
            cost = Cost(
                layer=stages[-1].layer if stages else layer,
                kept=stages[-1].rows if stages else visual,
                stages=[[stage.layer, stage.rows] for stage in stages],
                method=method,
                prefill=round(prefill, 6),
                token=round(token, 6),
                peak=self._peaks[run.kind],
                device=self._name,
            )
            found.append(asdict(cost))
        self._seen[benchmark] += 1
        self.spent += time.perf_counter() - started
        return found


def kind_of(cell: Cell, stages: tuple[Stage, ...], visual: int) -> Kind:
    """The kind that a cell's branches are of: head strategies and controls of one budget are one kind.

    A method's name holds the budget, too, so that two settings that end alike are not taken for each other.
    """
    if not stages or (len(stages) == 1 and stages[0].rows == visual):
        return "", (), cell.layer
    if (ranks_heads(cell.strategy) or cell.strategy in CONTROLS) and cell.query == "last_token":
        return "", stages, cell.layer
    options = f"/{cell.options_text}" if cell.options else ""
    return f"{cell.strategy}/{cell.query}/{cell.tokens}/{cell.budget}{options}", stages, cell.layer


def _kinds(engine: Engine, visual: int, choices: Sequence[Choose | None]) -> dict[Kind, int]:
    """One cell's place for each kind, narrowest first."""
    found: dict[Kind, int] = {}
    for column, cell in enumerate(engine.cells):
        stages = engine.stages(column, visual)
        if all(stage.layer for stage in stages) or (choices and choices[column]):
            found.setdefault(kind_of(cell, stages, visual), column)
    return dict(sorted(found.items(), key=lambda item: item[0][1][-1].rows if item[0][1] else visual))


@dataclass(frozen=True)
class _Run:
    """One question to be run alone under one cell; head strategies keep evenly spaced tokens."""

    engine: Engine
    kind: Kind
    cell: Cell
    image: Tensor | Picture
    question_QD: Tensor
    choose: Choose | None = None

    def seconds(self) -> tuple[float, float]:
        """Seconds to the first token, and of a token thereafter."""
        started = time.perf_counter()
        method, stages, layer = self.kind
        node = self._chosen() if method else self._spaced(stages, layer)
        return _seconds(node, started)

    def _chosen(self) -> Node:
        """Where the cell's own choices lead: nothing is shared, for there is but this cell."""
        alone = copy(self.engine)
        alone.cells, alone._stages = [self.cell], {}
        rows = () if self.choose is None else (self.choose(),)
        return Tree(alone, [self.image], [Question(0, self.question_QD, "", rows)], None).grow()[0][0].node

    def _spaced(self, stages: Sequence[Stage], layer: int) -> Node:
        """The state after the one stage of a head strategy, whichever tokens it keeps."""
        images = images_of(self.engine.decoder, self.engine.system, [ImageRows.whole(self.image)])
        trunk = Questions(images, [self.question_QD], [0])
        trunk.extend(stages[0].layer if stages else layer)
        whole = torch.arange(images.visual, device=self.engine.decoder.home)
        root = Node(trunk, 0, 0, trunk.layer, trunk, 0, whole, whole, trunk.layer)
        if not stages:
            return root
        count = images.visual if (prunable_r := root.prunable_r) is None else len(prunable_r)
        places = with_text(root, torch.linspace(0, count - 1, stages[0].rows, device=whole.device).round().long())
        return Node(trunk, 0, 0, trunk.layer, trunk, 0, places, places, trunk.layer, kept_R=places)


def _wait(device: torch.device) -> None:
    """Until the device has done what was queued, so that it is not taken for what comes next."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _seconds(node: Node, started: float) -> tuple[float, float]:
    """A stack of one branch that goes on for STEPS tokens after the first, whatever it says."""
    stack = Stack([node], [[]], Optimizations(), keep_logits=False)
    [outcome] = stack.accept(stack.read.cpu())
    first = time.perf_counter()  # the first token has been read, so the device is done with the prefill
    rows = [Open(stack.parts([0]), 0, outcome)]
    decode(stack.decoder, rows, STEPS + 1, lambda said: len(said.tokens) > STEPS)
    return first - started, (time.perf_counter() - first) / STEPS


def _peak(run: Callable[[], Any], device: torch.device) -> int:
    """Bytes that `run` held at most, beyond what was there before: by the allocator on CUDA, else its tensors."""
    if device.type != "cuda":
        with TensorMemoryTracker() as held:
            run()
        return held.peak
    devices = range(torch.cuda.device_count())  # a model may be spread over several
    before = [torch.cuda.memory_allocated(each) for each in devices]
    for each in devices:
        torch.cuda.reset_peak_memory_stats(each)
    run()
    return sum(torch.cuda.max_memory_allocated(each) - start for each, start in zip(devices, before, strict=True))


class TensorMemoryTracker(TorchDispatchMode):
    """Counts the bytes of the tensors that operations make and that are still held, and their `peak`."""

    def __init__(self) -> None:
        """Nothing is held yet."""
        super().__init__()
        self.held = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operation and count the storages that it made; those that went in are known and not counted."""
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
