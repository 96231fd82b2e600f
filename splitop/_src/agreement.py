"""What the replicas of a step agree on while its graph is built."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from splitop._src.graph.layers import DenseLayer
from splitop._src.graph.tables import TableGradient
from splitop._src.replicas import Replicas

UNLIKE = "the replicas of the tf.distribute strategy compute it in different ways"


@dataclasses.dataclass(frozen=True, eq=False)
class Agreement:
    """What is sent for dense layers.

    Attributes:
        gathered: The layers whose x and G of all replicas are gathered.
        added_up: Indices of the other layers' variables, and why their gradients are added up.
    """

    gathered: list[DenseLayer]
    added_up: dict[int, str]


@dataclasses.dataclass(frozen=True)
class _Outline:
    """What one replica has found.

    Attributes:
        alike: What has to be equal on all of them.
        rows: How many rows the input of each layer has; None: not known.
    """

    alike: tuple[Any, ...]
    rows: tuple[int | None, ...]


def agree(
    replicas: Replicas,
    layers: Sequence[DenseLayer],
    tables: Mapping[int, TableGradient],
    updated: Collection[int],
    declined: Collection[int],
) -> Agreement | None:
    """Tells the other replicas what this one has found.

    Args:
        replicas: The replicas.
        layers: Its dense layers.
        tables: Its tables, by the indices of their variables.
        updated: Indices of the variables whose gradients are in memory.
        declined: Indices of those that are not fused.

    Returns:
        What follows from what all have found; None if that is not the same.
    """
    dense = tuple((layer.kernel, layer.bias, layer.inputs, layer.outputs) for layer in layers)
    sparse = tuple((at, table.in_bags, table.ids.dtype) for at, table in tables.items())
    own = _Outline(
        alike=(dense, sparse, frozenset(updated), frozenset(declined)),
        rows=tuple(_rows_of(layer) for layer in layers),
    )
    outlines = replicas.share(own)
    if any(other.alike != own.alike for other in outlines):
        return None
    agreement = Agreement([], {})
    for at, layer in enumerate(layers):
        rows = _total([outline.rows[at] for outline in outlines], replicas)
        reason = _precision_reason(layer) or sum_reason(layer.inputs, layer.outputs, rows)
        if reason is None:
            agreement.gathered.append(layer)
        else:
            agreement.added_up.update(dict.fromkeys(layer.variables, reason))
    return agreement


def sum_reason(inputs: int, outputs: int, rows: int | None) -> str | None:
    """Why the replicas add up a layer's gradients instead of gathering what these come from.

    Args:
        inputs: How many inputs the layer has.
        outputs: How many outputs.
        rows: How many rows its input has on all replicas; None: not known.

    Returns:
        The reason, or None where x and G are less to move than the gradient is.
    """
    if rows is None:
        return "the replicas add up its gradients, as the size of a batch is not known beforehand"
    if rows * (inputs + outputs) >= inputs * outputs:
        return "the replicas add up its gradients, which are less to move than what they come from"
    return None


def _precision_reason(layer: DenseLayer) -> str | None:
    """Why what a layer has in few bits is not gathered: it is unscaled and added up in float32."""
    dtype = layer.xs[0].dtype
    if dtype.size > 2:
        return None
    return f"the replicas add up its gradients in float32, as it computes in {dtype.name}"


def _rows_of(layer: DenseLayer) -> int | None:
    """How many rows a layer's input has on this replica, as far as the graph tells."""
    elements = [x.shape.num_elements() for x in layer.xs]
    return None if None in elements else sum(elements) // layer.inputs


def _total(rows: Sequence[int | None], replicas: Replicas) -> int | None:
    """The rows of all replicas, from those of this process: other ones have as many."""
    known = [each for each in rows if each is not None]
    return sum(known) * replicas.count // len(rows) if len(known) == len(rows) else None
