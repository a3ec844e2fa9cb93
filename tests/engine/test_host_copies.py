"""How often the host reads from the device in one window: each time it waits, and the device then waits for it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from small_window import VISUAL, asked, small_model
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from headwise.engine import Engine, grow, memory, prefix, waves
from headwise.models.decoder import Decoder
from headwise.study.cells import Cell

READS = {"tolist", "item", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__", "nonzero", "unique"}
LIMIT = 10


class Reads(TorchFunctionMode):
    """Counts reads of tensors as if all were on a device, but for what came from `to_host`.

    It counts on a CPU what would be a copy on a GPU: calls that turn a tensor into Python values, and indexing by which
    rows are true, whose count must be known.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self._host: dict[int, Tensor] = {}  # holds the tensors, so that no address is used twice

    def to_host(self, tensors):
        if not tensors:
            return []
        self.counts["to_host"] += 1
        found = [each.clone() for each in tensors]
        self._keep(found)
        return found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        host = bool(given) and all(id(each) in self._host for each in given)
        name = getattr(func, "__name__", "")
        by_truth = name == "__getitem__" and any(each.dtype == torch.bool for each in given[1:])
        if not host and (name in READS or by_truth):
            self.counts[name] += 1
        out = func(*args, **(kwargs or {}))
        if host:
            self._keep(tree_leaves(out))
        return out

    def _keep(self, found: list[Any]) -> None:
        self._host |= {id(each): each for each in found if isinstance(each, Tensor)}


@pytest.fixture
def reads(monkeypatch):
    counter = Reads()
    for module in (grow, prefix, waves):
        monkeypatch.setattr(module, "to_host", counter.to_host)
    return counter


def test_a_read_is_counted_and_what_was_copied_is_not(reads):
    with reads:
        tensor = torch.arange(4)
        tensor.tolist(), tensor[tensor > 1], bool(tensor[0])
        (copy,) = reads.to_host([tensor])
        copy[copy > 1].tolist()
    assert reads.counts == {"tolist": 1, "__getitem__": 1, "__bool__": 1, "to_host": 1}


@pytest.mark.parametrize("questions", [2, 12])
def test_a_window_of_many_questions_and_cells_is_read_a_few_times(reads, questions):
    cells = [
        Cell(strategy=strategy, tokens=tokens, heads=heads, budget="kept")
        for strategy in ("sum", "sparsity", "hierarchical", "max_attention", "all_heads", "random_tokens")
        for tokens in (12, 6)
        for heads in (3, 1)
    ]
    before, pictures, window = asked([4, 9, 5] * (questions // 3 + 1))
    engine = Engine(Decoder(small_model()), before, cells, VISUAL, 3)
    with reads:
        rows = engine.answer(pictures, window[:questions])
        branches = [branch for row in rows for branch in row]
        [(branch.kept_R.tolist(), branch.heads_K is None or branch.heads_K.tolist()) for branch in branches]
    assert len(branches) == questions * len(cells)
    assert reads.counts.total() <= LIMIT, reads.counts


def test_tensors_of_one_dtype_come_back_as_they_were():
    given = [torch.tensor([[1, 2], [3, 4]]), torch.tensor(5), torch.empty(0, dtype=torch.long)]
    assert all(torch.equal(a, b) for a, b in zip(memory.to_host(given), given, strict=True))
    assert memory.to_host([]) == []
