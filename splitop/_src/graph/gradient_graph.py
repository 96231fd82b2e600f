"""The ops that tf.gradients added to a graph, and which of them are needed."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any

import tensorflow as tf

_NUMERICS_CHECKS = frozenset({"CheckNumerics", "CheckNumericsV2"})


class GradientGraph:
    """A view of the gradient ops; it changes nothing.

    tf.gradients also adds ops that lead nowhere (the gradient for a placeholder, say).
    Only `live` ops, those that lead to a wanted tensor, count as consumers. Of these, the
    `kept` ones have to run as they are: nothing may take over their work. `guards` are those
    that may fail or have side effects: no variable is written before they have run.
    """

    def __init__(self, ops: Sequence[Any], wanted: Iterable[Any], kept: Iterable[Any] = ()):
        """Reads the graph.

        Args:
            ops: What tf.gradients added, in the order of creation (inputs come first).
            wanted: The gradient tensors, or IndexedSlices, to be computed.
            kept: Those among them that these very ops have to compute.
        """
        self._ops = tuple(ops)
        self._added = frozenset(ops)
        trained = self.closure(wanted)
        self.live = trained | self.closure(kept)
        # A tf.function runs stateful ops in any case, so they can't be left out.
        runs_all = bool(ops) and ops[0].graph.building_function
        self.guards = tuple(
            op
            for op in ops
            if (op.op_def.is_stateful and (runs_all or op in trained))
            or (op.type in _NUMERICS_CHECKS and op in trained)
        )
        stateful = [op for op in self.live if op.op_def.is_stateful]
        self.kept = self.closure(kept, ops=[*self.guards, *stateful])

    def __contains__(self, op: Any) -> bool:
        return op in self._added

    def in_order(self, ops: Container[Any]) -> list[Any]:
        """The gradient ops among `ops`, inputs first."""
        return [op for op in self._ops if op in ops]

    def closure(
        self, tensors: Iterable[Any], stop: Iterable[Any] = (), ops: Iterable[Any] = ()
    ) -> frozenset[Any]:
        """The gradient ops needed for `tensors` and `ops`, not going through those in `stop`."""
        stopped = {tensor.ref() for tensor in stop}
        found: set[Any] = set()
        stack = [tensor for wanted in tensors for tensor in components(wanted)]
        pending = list(ops)
        while stack or pending:
            if not pending:
                tensor = stack.pop()
                if tensor.ref() not in stopped:
                    pending.append(tensor.op)
                continue
            op = pending.pop()
            if op in self._added and op not in found:
                found.add(op)
                stack += op.inputs
                pending += op.control_inputs
        return frozenset(found)

    def root(self, tensor: Any) -> Any:
        """The tensor that `tensor` is another shape of, seen through views of it.

        A view (Identity or Reshape) has the same values in the same order, so that both are
        the same matrix of a given number of columns.
        """
        while tensor.op in self._added and _is_view(tensor.op):
            tensor = tensor.op.inputs[0]
        return tensor

    def consumers(self, root: Any) -> list[Any]:
        """The live ops that use `root` or a view of it, other than the views."""
        users = []
        stack = [root]
        while stack:
            for op in stack.pop().consumers():
                if op not in self.live:
                    continue
                if _is_view(op) and self.root(op.outputs[0]) is root:
                    stack += op.outputs
                else:
                    users.append(op)
        return users


def components(gradient: Any) -> list[Any]:
    """The tensors that make up a gradient: several for IndexedSlices."""
    if isinstance(gradient, tf.IndexedSlices):
        parts = (gradient.values, gradient.indices, gradient.dense_shape)
        return [part for part in parts if part is not None]
    return [gradient]


def as_rows(tensor: Any, columns: int) -> Any:
    """`tensor` as a matrix [rows, columns]; itself if it is one."""
    is_matrix = tensor.shape.rank == 2 and tensor.shape[1] == columns
    return tensor if is_matrix else tf.reshape(tensor, [-1, columns])


def makes_rows(tensor: Any, columns: int) -> bool:
    """Whether the last dimensions of `tensor` are known to make up rows of so many columns."""
    size = 1
    for extent in reversed(tensor.shape.as_list() if tensor.shape.rank else ()):
        if size == columns or extent is None:
            break
        size *= extent
    return size == columns


def joined_rows(tensors: Sequence[Any]) -> Any:
    """The rows of all `tensors`, which are matrices, as one matrix."""
    return tensors[0] if len(tensors) == 1 else tf.concat(tensors, 0)


def _is_view(op: Any) -> bool:
    """Whether an op only renames or reshapes its input: see GradientGraph.root."""
    if op.control_inputs:  # It orders something, too.
        return False
    if op.type == "Transpose":
        return _is_identity_permutation(op.inputs[1])
    return op.type in ("Identity", "Reshape")


def _is_identity_permutation(permutation: Any) -> bool:
    # The gradient of a Transpose is one by the inverse: the identity is its own.
    if permutation.op.type == "InvertPermutation":
        permutation = permutation.op.inputs[0]
    value = tf.get_static_value(permutation)
    return value is not None and list(value) == list(range(len(value)))
