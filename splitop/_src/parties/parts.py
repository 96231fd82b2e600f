"""`splitop.ray.FirstPart` and `SecondPart`: what a party's function returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from splitop._src.errors import SplitError
from splitop._src.names import describe


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class SecondPart:
    """The second part, from its owner's inputs to IV.

    Attributes:
        model: Keras model, built, from what `data` gives to iv: a float tensor with a row for each
            sample, or a nested structure of them.
        optimizer: keras.optimizers.Optimizer.
        data: From an array of sample keys to the model's inputs of these samples, in their order,
            such as `splitop.ray.Rows`.
        backend: See `splitop.plan`.
        check_numerics: Whether NaN or Inf in the seed is an error.
        sparse: See `splitop.plan`.
        skip_nonfinite: See `splitop.plan`. To be set where the first part's optimizer is a
            LossScaleOptimizer, which this part can't see.
    """

    model: Any
    optimizer: Any
    data: Callable[[np.ndarray], Any]
    backend: str | None = None
    check_numerics: bool = False
    sparse: str = "exact"
    skip_nonfinite: bool = False


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class FirstPart:
    """The first part, from IV to the loss.

    Attributes:
        model: Keras model, built, from iv to a prediction. Of several second parts it takes the
            list of their ivs, in the order in which the trainer was given the parties.
        optimizer: keras.optimizers.Optimizer.
        loss: `loss(y, prediction)`: see `splitop.SplitStep`.
        data: From an array of sample keys to y of these samples, in their order.
        backend: See `splitop.plan`.
        sparse: See `splitop.plan`.
        skip_nonfinite: See `splitop.plan`.
    """

    model: Any
    optimizer: Any
    loss: Callable[[Any, Any], Any]
    data: Callable[[np.ndarray], Any]
    backend: str | None = None
    sparse: str = "exact"
    skip_nonfinite: bool = False


def check_part(part: Any, kind: type[Any], party: str, function: str) -> None:
    """Checks what a party's function has returned, and builds the optimizer's state.

    Raises:
        SplitError: It is of another kind.
    """
    if not isinstance(part, kind):
        raise SplitError(
            f'the function "{function}" of the party "{party}" must return a '
            f"splitop.ray.{kind.__name__}. Received: {describe(part)}."
        )
    if not isinstance(part.model, keras.Model) or not part.model.built:
        raise SplitError(
            f'the model of the party "{party}" must be a Keras model that is built: give it a '
            f"keras.Input. Received: {describe(part.model)}."
        )
    if not isinstance(part.optimizer, keras.optimizers.Optimizer):
        raise SplitError(
            f'the optimizer of the party "{party}" must be a keras.optimizers.Optimizer. '
            f"Received: {describe(part.optimizer)}."
        )
    if not callable(part.data):
        raise SplitError(
            f'data of the party "{party}" must be a function of sample keys, such as '
            f"splitop.ray.Rows(keys, values). Received: {describe(part.data)}."
        )
    # So that a checkpoint of step 0 holds what one of a later step does.
    part.optimizer.build(part.model.trainable_variables)
