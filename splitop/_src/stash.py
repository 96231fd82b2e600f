"""What one run keeps for another one: tensors, on the device where they are."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.python.eager import context

from splitop._src import held_variables
from splitop._src.validate import Trainable

_MISSING = (
    "splitop: StashError: train_second has no forward pass to go back from. Before each "
    "train_second, in a run of its own, run what keeps one: train_first or keep of split_minimize, "
    "forward_second of a SplitStep. Received: nothing kept."
)


class _Spec(NamedTuple):
    """What a tensor is like."""

    dtype: tf.DType
    shape: tf.TensorShape
    device: str


@dataclasses.dataclass(frozen=True, eq=False)
class Taken:
    """What a stash has held.

    Attributes:
        tensors: In the order in which they were put.
        after: Operations that run once all is known to be right and the stash is empty. Nothing
            may be written before.
    """

    tensors: tuple[tf.Tensor, ...]
    after: tuple[tf.Operation, ...]


class Stash:
    """Some tensors, in variables that exist from when they are put until they are taken.

    To put and to take moves no memory: a variable shares the buffer of what is assigned to it, and
    whoever reads it shares it, too. It may be used in the current graph or in any function of the
    process; in a TF1 graph each session of this process has its own.
    """

    def __init__(self, like: Sequence[Any], variables: Sequence[Trainable] = ()):
        """Adds nothing to the graph yet.

        Args:
            like: Tensors of the dtypes and shapes that will be put, and on their devices.
            variables: Those that must not have moved when the tensors are taken.
        """
        self._count = len(like)
        self._variables = tuple(variables)
        held = [item.variable for item in variables]
        self._specs = [
            *(_Spec(each.dtype.base_dtype, each.shape, each.device) for each in like),
            # Of a variable that is copied when it is read, an empty tensor is held.
            *(_Spec(each.dtype, tf.TensorShape(None), each.device) for each in held),
        ]
        self._name = f"splitop_stash_{uuid.uuid4().hex}"

    def put(self, tensors: Sequence[Any], after: Sequence[Any] = ()) -> tf.Operation:
        """Keeps tensors, in the place of what was kept before.

        Args:
            tensors: One for each that the stash was made for.
            after: The operations that use the variables before.

        Returns:
            The operation that does it.
        """
        with tf.name_scope("splitop/put"):
            marker, handles = self._marker(), self._handles()
            with tf.control_dependencies(after):
                held = held_variables.hold(self._variables)
            values = [*tensors, *held]
            # Not there until all is: what a step that failed has left behind is never taken.
            cleared = tf.raw_ops.DestroyResourceOp(resource=marker, ignore_lookup_error=True)
            with tf.control_dependencies([cleared]):
                kept = [
                    tf.raw_ops.AssignVariableOp(resource=handle, value=tensor)
                    for handle, tensor in zip(handles, values, strict=True)
                ]
            with tf.control_dependencies(kept):
                return tf.raw_ops.AssignVariableOp(resource=marker, value=tf.constant(True))

    def take(self) -> Taken:
        """Takes what was put, and leaves nothing.

        When it runs, it fails with a StashError if nothing was put, or if a variable was written
        since; what is kept then stays.
        """
        with tf.name_scope("splitop/take"):
            marker = self._marker()
            there = tf.raw_ops.Assert(
                condition=tf.raw_ops.VarIsInitializedOp(resource=marker), data=[_MISSING]
            )
            handles = self._handles()
            with tf.control_dependencies([there]):
                tensors = [
                    tf.raw_ops.ReadVariableOp(resource=handle, dtype=spec.dtype)
                    for handle, spec in zip(handles, self._specs, strict=True)
                ]
            for tensor, spec in zip(tensors, self._specs, strict=True):
                tensor.set_shape(spec.shape)
            kept, held = tensors[: self._count], tensors[self._count :]
            checks = held_variables.check(self._variables, held)
            with tf.control_dependencies([there, *checks, *(tensor.op for tensor in tensors)]):
                # A variable that is held would be copied before it is written.
                emptied = self._destroy([marker, *handles])
            return Taken(tuple(kept), tuple(emptied))

    def clear(self) -> tf.Operation:
        """The operation that forgets what was put, if anything was."""
        with tf.name_scope("splitop/clear"):
            return tf.group(*self._destroy([self._marker(), *self._handles()]))

    def clear_now(self) -> None:
        """Forgets what eager calls have put, at once, whatever graph is being built."""
        with context.eager_mode():
            self.clear()

    def _marker(self) -> tf.Tensor:
        """A variable that exists while all others do."""
        with tf.device("/CPU:0"):
            return self._handle("complete", tf.bool)

    def _handles(self) -> list[tf.Tensor]:
        handles = []
        for position, spec in enumerate(self._specs):
            with tf.device(spec.device or None):
                handles.append(self._handle(str(position), spec.dtype))
        return handles

    def _handle(self, name: str, dtype: tf.DType) -> tf.Tensor:
        return tf.raw_ops.VarHandleOp(
            dtype=dtype, shape=tf.TensorShape(None), shared_name=f"{self._name}/{name}"
        )

    @staticmethod
    def _destroy(handles: Sequence[tf.Tensor]) -> list[tf.Operation]:
        return [
            tf.raw_ops.DestroyResourceOp(resource=handle, ignore_lookup_error=True)
            for handle in handles
        ]
