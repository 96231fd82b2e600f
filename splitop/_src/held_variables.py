"""Whether variables were written between two points, perhaps of two runs.

While somebody holds a variable's tensor, TensorFlow gives the variable another buffer before it is
written. So it is enough to compare the places of the buffers. Without the compiled library, the
values are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from splitop._src import library
from splitop._src.graph.devices import Place, on_device_of, place_of
from splitop._src.ops import resource_handle
from splitop._src.validate import Trainable

_MOVED = (
    "splitop: StashError: the weights have moved since the forward pass that was kept: run the "
    'second part\'s forward pass again. Received: a write to "{name}" in between.'
)


def hold(variables: Sequence[Trainable]) -> list[tf.Tensor]:
    """The tensors of resource variables, in the order of `variables`; nothing is copied.

    As long as they are alive, a write to a variable copies it.
    """
    if library.reason() is not None:
        return [item.variable.read_value() for item in variables]
    held: dict[str, tf.Tensor] = {}
    for group in _by_place(variables):
        with on_device_of(tf.compat.v1.get_default_graph(), group[0].variable):
            tensors = library.load().splitop_hold_variables(
                variables=_handles(group), T=[item.variable.dtype for item in group]
            )
        held |= {item.name: tensor for item, tensor in zip(group, tensors, strict=True)}
    return [held[item.name] for item in variables]


def check(variables: Sequence[Trainable], held: Sequence[tf.Tensor]) -> list[tf.Operation]:
    """Operations that fail if a variable was written since it was held.

    What is not seen is a write to a variable that tf.gather reads rows of, as TensorFlow copies
    such a variable whenever all of it is read.
    """
    pairs = list(zip(variables, held, strict=True))
    if library.reason() is not None:
        return [_check_value(item, tensor) for item, tensor in pairs]
    tensors = {item.name: tensor for item, tensor in pairs}
    checks = []
    for group in _by_place(variables):
        with on_device_of(tf.compat.v1.get_default_graph(), group[0].variable):
            checks.append(
                library.load().splitop_check_held(
                    variables=_handles(group),
                    held=[tensors[item.name] for item in group],
                    names=[item.name for item in group],
                )
            )
    return checks


def _by_place(variables: Sequence[Trainable]) -> list[list[Trainable]]:
    groups: dict[Place, list[Trainable]] = {}
    for item in variables:
        groups.setdefault(place_of(item.variable), []).append(item)
    return list(groups.values())


def _handles(variables: Sequence[Trainable]) -> list[Any]:
    return [resource_handle(item.variable, f'variable "{item.name}"') for item in variables]


def _check_value(item: Trainable, held: tf.Tensor) -> tf.Operation:
    # As integers: NaN is equal to itself then.
    now, before = (tf.bitcast(value, tf.uint8) for value in (item.variable.read_value(), held))
    return tf.raw_ops.Assert(
        condition=tf.reduce_all(tf.equal(now, before)), data=[_MOVED.format(name=item.name)]
    )
