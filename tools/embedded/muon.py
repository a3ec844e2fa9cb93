"""Muon (Jordan et al., 2024) in float32, matrices of one shape orthogonalised together.

torch.optim.Muon works in bfloat16, which a CPU without such instructions emulates: it took three times
as long as the rest of a training step.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # the published quintic iteration


def orthogonal(matrices_KRC: Tensor, iterations: int = 5) -> Tensor:
    """The nearest matrices with singular values near 1, for R <= C."""
    a, b, c = COEFFICIENTS
    x = matrices_KRC / (matrices_KRC.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, with the step size of AdamW (0.2 · lr · √max(rows, columns))."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.01):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[tuple[nn.Parameter, Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                update = self._momentum(parameter, group["momentum"])
                update = update.mT if update.shape[0] > update.shape[1] else update
                by_shape.setdefault(tuple(update.shape), []).append((parameter, update))
            for shape, pairs in by_shape.items():
                size = 0.2 * group["lr"] * max(shape) ** 0.5
                steps = orthogonal(torch.stack([update for _, update in pairs]))
                for (parameter, _), step in zip(pairs, steps, strict=True):
                    parameter.mul_(1 - group["lr"] * group["decay"])
                    parameter.sub_(step if parameter.shape == step.shape else step.mT, alpha=size)

    def _momentum(self, parameter: nn.Parameter, beta: float) -> Tensor:
        state = self.state[parameter]
        assert parameter.grad is not None
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        buffer: Tensor = state["momentum"]
        buffer.lerp_(parameter.grad, 1 - beta)
        return parameter.grad.lerp(buffer, beta)
