"""Which forward pass a tensor comes from, so that no step takes the seed of another batch."""

from __future__ import annotations

import dataclasses
import itertools
import weakref
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from splitop._src.errors import SeedError, StashError
from splitop._src.names import describe
from splitop._src.parts import seed_dtype
from splitop._src.second_run import SecondRun
from splitop._src.validate import flatten_like


class Origins:
    """The forward passes that eager tensors come from, as long as the tensors live."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._known: dict[int, int] = {}

    def new(self, ivs: Sequence[Any]) -> int:
        """The number of a new forward pass, which has computed `ivs`."""
        number = next(self._numbers)
        self.add(ivs, number)
        return number

    def add(self, tensors: Sequence[Any], number: int | None) -> None:
        """Says where tensors come from; None: not known."""
        if number is not None:
            for tensor in tensors:
                # Another tensor may have the same id later.
                weakref.finalize(tensor, self._known.pop, id(tensor), None).atexit = False
                self._known[id(tensor)] = number

    def of(self, tensors: Sequence[Any]) -> int | None:
        """The number of the forward pass that all tensors come from; None: not known."""
        numbers = {self._known.get(id(tensor)) for tensor in tensors}
        return numbers.pop() if len(numbers) == 1 else None


@dataclasses.dataclass(eq=False)
class ForwardPass:
    """A forward pass whose step is still to come.

    Attributes:
        run: The functions of its input signature.
        origin: Its number.
        shapes: Of its intermediate vectors.
        seed: What train_first has returned for it; None: nothing yet.
    """

    run: SecondRun
    origin: int
    shapes: Sequence[tf.TensorShape]
    seed: Any = None

    def seeds(self, given: Any, origins: Origins, check_numerics: bool) -> list[tf.Tensor]:
        """The seeds of the step, flat.

        Args:
            given: dL/dIV in the structure of iv, or None for what train_first has returned.
            origins: Where tensors come from.
            check_numerics: Whether NaN and Inf are errors.
        """
        seed = self.seed if given is None else given
        if seed is None:
            raise StashError(
                "train_second was given no seed, and train_first has not had the iv of the last "
                "forward_second: pass dL/dIV. Received: None."
            )
        iv = self.run.iv
        flat = flatten_like(iv, seed, "the seed must have the structure of iv.")
        origin = origins.of(flat)
        if origin not in (None, self.origin):
            raise StashError(
                "the seed is not of the last forward pass: call train_second between train_first "
                f"and the next forward_second. Received: the seed of forward pass {origin}, where "
                f"the last one is {self.origin}."
            )
        own = tf.nest.flatten(iv)
        seeds = [_fitting(*each) for each in zip(flat, own, self.shapes, strict=True)]
        if check_numerics:
            for tensor, each in zip(seeds, own, strict=True):
                _check_finite(tensor, each)
        return seeds


def _fitting(seed: Any, iv: Any, shape: tf.TensorShape) -> tf.Tensor:
    expected = seed_dtype(iv)
    kind = getattr(getattr(seed, "dtype", None), "kind", "f")  # of an array
    try:
        tensor = tf.convert_to_tensor(seed, None if tf.is_tensor(seed) else expected)
    except (TypeError, ValueError):
        tensor = None
    if tensor is not None and tensor.dtype == iv.dtype:
        tensor = tf.cast(tensor, expected)
    if kind in "biuc" or tensor is None or tensor.dtype != expected or tensor.shape != shape:
        raise SeedError(
            f'the seed of "{iv.name}" must be of {expected.name} and shape {shape}. '
            f"Received: {describe(seed)}."
        )
    return tensor


def _check_finite(seed: tf.Tensor, iv: Any) -> None:
    wrong = int(tf.reduce_sum(tf.cast(~tf.math.is_finite(seed), tf.int64)))
    if wrong:
        raise SeedError(
            f'the seed of "{iv.name}" must be finite. Received: NaN or Inf in {wrong} of its '
            f"{tf.size(seed)} elements."
        )
