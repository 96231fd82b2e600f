"""Checks of the seeds that have to wait until their values are there."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from splitop._src import replicas
from splitop._src.graph.shapes import shape_of
from splitop._src.names import tensor_name
from splitop._src.xla import Check, in_xla, passed


@dataclasses.dataclass(frozen=True, eq=False)
class Seed:
    """dL/dIV of one intermediate vector.

    Attributes:
        name: What the user calls it.
        raw: The tensor as it was given.
        checked: The same, available once all checks of the call have passed.
        implied_by_batch: Whether only its first dimension is open: then an op that compares
            that with its batch needs no other check.
    """

    name: str
    raw: Any
    checked: Any
    implied_by_batch: bool


@dataclasses.dataclass(frozen=True, eq=False)
class CheckedSeeds:
    """The seeds of a call.

    Attributes:
        seeds: One for each intermediate vector.
        checks: Operations that fail if a seed is unfit. Nothing may be written before them. Inside
            XLA there are none: what depends on the checked seeds comes after the checks.
        finite: Whether they look for NaN and Inf, too.
    """

    seeds: tuple[Seed, ...]
    checks: tuple[Any, ...]
    finite: bool


def check_seeds(
    ivs: tuple[Any, ...], seeds: tuple[Any | None, ...], check_numerics: bool
) -> CheckedSeeds:
    """Adds the run-time checks that are needed; a missing seed becomes ones.

    Args:
        ivs: The intermediate vectors.
        seeds: dL/dIV for each, of a shape that may fit, or None.
        check_numerics: Whether NaN and Inf are errors too.
    """
    raw = []
    names = []
    checks: list[Check] = []
    operations: list[Any] = []
    xla = in_xla(tf.compat.v1.get_default_graph())
    for iv, seed in zip(ivs, seeds, strict=True):
        given = seed is not None
        names.append(tensor_name(seed) if given else f"ones for {iv.name}")
        tensor = tf.convert_to_tensor(seed) if given else tf.ones(shape_of(iv), iv.dtype)
        raw.append(tensor)
        if not (tensor.shape.is_fully_defined() and iv.shape.is_fully_defined()):
            checks.append(_check_shape(iv, tensor, names[-1]))
        if check_numerics and given:
            message = f"splitop: SeedError: the seed {names[-1]} of {iv.name} must be finite"
            if xla:
                checks.append(_check_finite(tensor, message))
            else:
                operations.append(tf.debugging.check_numerics(tensor, message).op)
    if xla:
        checked = [passed(tf.identity(tensor), checks) for tensor in raw]
    else:
        operations += [check.operation() for check in checks]
        with tf.control_dependencies(operations):
            checked = [tf.identity(tensor) for tensor in raw]
    for tensor, iv in zip(checked, ivs, strict=True):
        tensor.set_shape(iv.shape)
    return CheckedSeeds(
        seeds=tuple(
            Seed(name, tensor, gated, _only_batch_is_open(tensor.shape, iv.shape))
            for name, tensor, gated, iv in zip(names, raw, checked, ivs, strict=True)
        ),
        checks=tuple(operations),
        finite=check_numerics,
    )


def _check_shape(iv: Any, seed: Any, name: str) -> Check:
    expected = shape_of(iv)
    shape = tf.shape(seed)
    rank = tf.equal(tf.size(shape), tf.size(expected))
    # Shapes of different lengths must not be broadcast against each other.
    same = tf.equal(tf.concat([shape, expected], 0), tf.concat([expected, shape], 0))
    needs, least = ", which needs at least one row", 1
    if replicas.replicas() is not None:
        needs, least = "", 0  # There may be no rows left for one of them.
    fits = rank & tf.reduce_all(same) & tf.reduce_all(expected >= least)
    message = (  # Without quotation marks: the op would escape them.
        f"splitop: SeedError: the seed {name} must have the shape of the intermediate vector "
        f"{iv.name}{needs}. Expected:"
    )
    return Check(fits, (message, expected, "Received:", shape))


def _check_finite(seed: Any, message: str) -> Check:
    finite = tf.reduce_all(tf.math.is_finite(seed))
    return Check(finite, (f"{message}. Received: NaN or Inf.",))


def _only_batch_is_open(seed: tf.TensorShape, iv: tf.TensorShape) -> bool:
    if not seed.rank or not iv.rank:
        return False
    return seed[1:].is_fully_defined() and iv[1:].is_fully_defined()
