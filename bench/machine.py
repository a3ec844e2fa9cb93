"""The machine a measurement was made on: its name, its matmul rate, its peak memory, the commit."""

from __future__ import annotations

import resource
import time

import torch

from headwise.engine.alone import device_name
from headwise.system.provenance import commit


def describe(device: torch.device) -> dict[str, str]:
    return {"device": device_name(device), "torch": torch.__version__, "commit": commit()}


def matmul_rate(device: torch.device, dtype: torch.dtype, size: int | None = None) -> float:
    """FLOP/s of a square matrix product: the best of several after a warm-up."""
    size = size or (8192 if device.type == "cuda" else 1024)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(8):
        if device.type == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def peak_memory(device: torch.device) -> int:
    """Peak bytes of the device (GPU) or of the process (CPU)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
