"""The update of variables whose gradients were added up over several steps."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from splitop._src.clipping import NONE, Clipping
from splitop._src.norms import SquaredNorms
from splitop._src.optimizers import Accumulation, OptimizerAdapter, UpdateRule
from splitop._src.optimizers.base import run_if
from splitop._src.updates import Updates, by_place
from splitop._src.validate import Call


class Accumulated:
    """The accumulators of a step's variables, as the gradients of an update."""

    def __init__(
        self,
        adapter: OptimizerAdapter,
        rule: UpdateRule,
        accumulation: Accumulation,
        clipping: Clipping,
        call: Call,
        indices: Sequence[int],
    ):
        """Adds nothing to the graph yet.

        Args:
            adapter: The optimizer.
            rule: Its update rule.
            accumulation: How it adds gradients up.
            clipping: What it does to the gradients of one step.
            call: The step.
            indices: Of the variables.
        """
        self._adapter = adapter
        self._rule = rule
        self._accumulation = accumulation
        self._clipping = clipping
        self._call = call
        self._indices = indices

    def update_if_due(
        self, added: Sequence[tf.Operation], condition: tf.Tensor | None
    ) -> tf.Operation:
        """Updates the variables after the step's gradients were added, in every so many steps.

        Args:
            added: The operations that have added them.
            condition: Whether they have; None: yes.
        """
        due = self._accumulation.due()
        with tf.control_dependencies(added):
            return run_if(due if condition is None else due & condition, self._update)

    def _update(self) -> tf.Operation:
        clipping = self._clipping.after_accumulation(self._accumulation.steps)
        gradients = [(index, self._accumulator(index).read_value()) for index in self._indices]
        groups = by_place(self._call, gradients)
        norms = SquaredNorms()
        if clipping.norms != NONE:
            for pairs in groups:
                norms.add_gradients(pairs, self._call)
        clipping.resolve(norms)
        updates = Updates(
            self._adapter, self._rule, self._call, clipping, lazy=False, now=lambda tensor: tensor
        )
        updated = [updates.tensors(pairs, before=()) for pairs in groups]
        with tf.control_dependencies(updated):
            return tf.group(*(self._reset(index) for index in self._indices))

    def _accumulator(self, index: int) -> tf.Variable:
        return self._accumulation.variable(self._call.variables[index].given)

    def _reset(self, index: int) -> tf.Operation:
        accumulator = self._accumulator(index)
        return accumulator.assign(tf.zeros_like(accumulator), read_value=False)
