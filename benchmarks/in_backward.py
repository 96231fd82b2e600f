"""torch: a parameter that is updated as soon as its gradient is there, which is then freed."""

from __future__ import annotations

import torch


def update_in_backward(parameter: torch.nn.Parameter, optimizer: torch.optim.Optimizer) -> None:
    """Has the backward pass make the optimizer's step.

    Args:
        parameter: The parameter.
        optimizer: An optimizer of this parameter alone.
    """

    def hook(parameter: torch.Tensor) -> None:
        optimizer.step()
        parameter.grad = None

    parameter.register_post_accumulate_grad_hook(hook)
