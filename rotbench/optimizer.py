"""The optimiser of a run: torch's, over all parameters, stepped in the order in which they lie in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Optimizer:
    """A torch optimiser over parameters that lie in memory in any order.

    torch's fused optimisers copy a tensor that is not contiguous, with its moments and its gradient, at every step; a
    kernel with its channels last is not, and copying costs more than stepping. A step does not depend on the order of
    elements, so each parameter is stepped as a view of the same memory with its axes in the order of their strides.

    One optimiser has all parameters, frozen ones too: what has no gradient is not stepped and does not decay.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        name: str,
        *,
        lr: float,
        weight_decay: float,
        momentum: float,
        nesterov: bool,
    ) -> None:
        self._parameters = list(parameters)
        self._orders = [_order(parameter) for parameter in self._parameters]
        self._views = [
            nn.Parameter(parameter.detach().permute(order))
            for parameter, order in zip(self._parameters, self._orders, strict=True)
        ]
        # Fused, torch takes a tensor with gaps in memory for one without, and steps what lies in the gaps.
        fused = all(view.is_contiguous() for view in self._views)
        if name == "sgd":
            self.stepped: torch.optim.Optimizer = torch.optim.SGD(
                self._views, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, fused=fused
            )
        else:
            adam = torch.optim.Adam if name == "adam" else torch.optim.AdamW
            self.stepped = adam(self._views, lr=lr, weight_decay=weight_decay, fused=fused)

    def set_lr(self, lr: float) -> None:
        """The learning rate of the next steps."""
        for group in self.stepped.param_groups:
            group["lr"] = lr

    def zero_grad(self) -> None:
        """Drop all gradients; what gets none until the next step is not stepped."""
        for parameter, view in zip(self._parameters, self._views, strict=True):
            parameter.grad = view.grad = None

    def step(self, scaler: torch.amp.GradScaler) -> None:
        """One step from the gradients that the parameters have; ``scaler`` unscales them where it is enabled."""
        for parameter, view, order in zip(self._parameters, self._views, self._orders, strict=True):
            view.grad = None if parameter.grad is None else parameter.grad.permute(order).contiguous()
        self._give_momentum()
        scaler.step(self.stepped)

    def _give_momentum(self) -> None:
        """A momentum of 0 for parameters that join others which have one: fused SGD takes all or none.

        It is what SGD itself begins with. A parameter that joins has no momentum of its own yet.
        """
        optimizer = self.stepped
        if not isinstance(optimizer, torch.optim.SGD):
            return
        for group in optimizer.param_groups:
            moving = [view for view in group["params"] if view.grad is not None] if group["momentum"] else []
            having = [view for view in moving if optimizer.state[view].get("momentum_buffer") is not None]
            if having and len(having) < len(moving):
                for view in moving:
                    if optimizer.state[view].get("momentum_buffer") is None:
                        optimizer.state[view]["momentum_buffer"] = torch.zeros_like(view)

    def state_dict(self) -> dict[str, Any]:
        """As of torch's optimiser; moments have the order of memory."""
        return self.stepped.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of the same parameters in the same order of memory."""
        self.stepped.load_state_dict(state)


def _order(parameter: Tensor) -> list[int]:
    """Its axes from the slowest to the fastest; an axis of one element has no stride of its own and goes first."""
    sizes, strides = parameter.shape, parameter.stride()
    return sorted(range(parameter.ndim), key=lambda axis: (sizes[axis] > 1, -strides[axis]))
