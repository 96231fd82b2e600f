"""`splitop.MicroBatches`: the second part in chunks of a batch, trained as on the whole batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from splitop._src.chunk_gradients import build_gradients
from splitop._src.chunk_loops import add_forward
from splitop._src.chunking import Chunking
from splitop._src.errors import SplitError
from splitop._src.names import describe
from splitop._src.optimizers.base import tf_variable
from splitop._src.planner import Plan, make_plan
from splitop._src.replay import Reads, written_state
from splitop._src.second_part import SecondPart
from splitop._src.validate import Call, check_call, current_graph
from splitop._src.xla import in_xla


class MicroBatches:
    """The second part on a batch, some rows at a time: gradient caching.

    The forward pass goes through the batch in micro-batches and keeps the intermediate vector
    alone. So the loss may be one of the whole batch, as contrastive losses are, while the
    activations in memory are those of one micro-batch. From the seed dL/dIV of the whole batch,
    the backward pass runs the second part once more on each micro-batch, adds the gradients up,
    and makes one update:

        @tf.function
        def step(x, labels):
            chunks = splitop.MicroBatches(
                lambda x: second(x, training=True), x, size=32, state=second.non_trainable_variables
            )
            loss = loss_fn(labels, first(chunks.iv))
            (seed,) = tf.gradients(loss, chunks.iv)
            splitop.minimize(first_optimizer, loss, first.trainable_variables)
            chunks.minimize(second_optimizer, second.trainable_variables, seed)

    The result is that of the whole batch, but for the order in which floats are added up: the seed
    is that of the whole batch's loss, so that nothing is scaled, whether the loss is a mean or a
    sum. The gradients of half types are added up in float32.

    Both passes see the same values, dropout masks too: `state` is recorded before each micro-batch
    of the first pass, and set back to that in the second one. Afterwards it is as the first pass
    has left it. **BatchNormalization** in training mode normalises each micro-batch by itself, and
    moves its statistics once for each: that is another training than with the whole batch.

    **Losses that are not computed from IV.** What depends on the rows (activity regularisation,
    add_loss) the second part may return beside the vectors, as (iv, penalty). With
    `penalty="mean"` it is a mean over the rows, as Keras' activity regularisers are: each
    micro-batch counts by its rows. With `penalty="sum"` it is a sum over them. What depends on the
    weights alone (weight regularisers) must not be in a sum, where it would count once for each
    micro-batch; best it is computed once, as the `regularization` of `plan` and `minimize`. The
    `losses` of a Keras model are both, those of the weights last:

        weights = [w for w in second.trainable_weights if w.regularizer is not None]
        regularization = tf.add_n([w.regularizer(w) for w in weights])
        # in second_part, after `iv = second(x, training=True)`:
        return iv, tf.add_n(second.losses[: len(second.losses) - len(weights)])

    Attributes:
        iv: The intermediate vectors of all rows, in the structure that `second_part` returns. No
            gradient flows back through them: `plan` and `minimize` are the way.
        penalty: That of the whole batch, a scalar of float32 or float64, or None. It is part of the
            loss: add it, and if the sum is scaled pass its gradient on as `penalty_seed`.
        count: Number of micro-batches, an int32 scalar.
    """

    @tf.autograph.experimental.do_not_convert
    def __init__(
        self,
        second_part: Callable[[Any], Any],
        inputs: Any,
        *,
        size: int,
        state: Sequence[Any] = (),
        penalty: str | None = None,
    ):
        """Adds the forward pass to the graph, of a tf.function or a TF1 graph.

        Args:
            second_part: Computes the intermediate vectors, a float tensor or a nested structure of
                them, from a micro-batch of `inputs`; each has the micro-batch's rows along axis 0.
                With `penalty` it returns (iv, penalty). It is traced twice, without AutoGraph
                unless it is a tf.function.
            inputs: The batch: a nested structure of tensors (dense, ragged or sparse) that are
                sliced along axis 0.
            size: Rows of a micro-batch. The last one has what is left.
            state: The non-trainable variables that `second_part` writes: random seeds, moving
                statistics; of a Keras model `non_trainable_variables`. Others do no harm.
            penalty: "sum" or "mean": `second_part` returns a penalty, too, a float scalar that is
                one over its rows. None: it does not.

        Raises:
            SplitError: Called eagerly or with jit_compile=True; `inputs` or `size` does not fit;
                `second_part` does what can't be repeated: it draws from a stateful random op, reads
                an iterator, calls Python, or writes a variable that is not in `state`. A batch
                without rows that only a run can tell is a tf.errors.InvalidArgumentError.
            CutError: An intermediate vector is no float tensor with the rows of its micro-batch.
        """
        graph = current_graph("MicroBatches")
        _check_not_in_xla(graph)
        before = [tf_variable(variable) for variable in state]
        with tf.name_scope("splitop/micro_batches"):
            self._chunking = Chunking(inputs, size)
            self._part = SecondPart(second_part, self._chunking, penalty)
            chunk, structure = self._part.trace()
            self._state = written_state(chunk.graph, before)
            self._forward = add_forward(graph, self._chunking, chunk, structure, self._state)
        self._reads = Reads(graph, chunk.graph, self._chunking.inputs, self._state)
        self.iv = tf.nest.pack_sequence_as(structure, self._forward.ivs)
        self.penalty = self._forward.penalty
        self.count = self._chunking.count

    @tf.autograph.experimental.do_not_convert
    def plan(
        self,
        optimizer: Any,
        var_list: Sequence[Any],
        seeds: Any,
        *,
        penalty_seed: Any | None = None,
        regularization: Any | None = None,
        backend: str | None = None,
        check_numerics: bool = False,
        sparse: str = "exact",
        skip_nonfinite: bool = False,
    ) -> Plan:
        """Adds the backward pass of all micro-batches, and plans one update by its gradients.

        Each call adds a backward pass of its own: plan all variables that one optimizer trains at
        once. The gradient of a table has a slice for each id that the batch has looked up.

        Args:
            optimizer: See `splitop.plan`.
            var_list: Variables that `second_part` uses; it must not use them through `inputs`, or
                through tensors from outside.
            seeds: dL/dIV of the whole batch, in the structure of `iv`; None: ones.
            penalty_seed: The gradient of the loss by `penalty`; None: 1.
            regularization: A float scalar computed from the variables outside of `second_part`:
                the loss that counts once for the batch.
            backend: See `splitop.plan`. The update alone is fused: `Plan.updated`, `Plan.tables`.
            check_numerics: See `splitop.plan`.
            sparse: See `splitop.plan`.
            skip_nonfinite: See `splitop.plan`.

        Returns:
            The plan; `Plan.apply()` makes the update.

        Raises:
            SplitError: As `splitop.plan` does, with its subclasses; or something has written a
                variable that the second part reads since its forward pass.
            CutError: A variable also reaches the intermediate vector around `second_part`.
        """
        call = self._call(var_list, seeds, penalty_seed)
        self._reads.check(call)
        with tf.name_scope("splitop/micro_batches"):
            reference = build_gradients(
                call,
                self._part,
                self._chunking,
                self._forward,
                self._state,
                regularization,
                check_numerics,
            )
        if regularization is not None:
            # What it reads is read before the update, too.
            call = dataclasses.replace(call, ivs=(*call.ivs, regularization))
        plan, _ = make_plan(
            optimizer,
            call,
            backend=backend,
            check_numerics=check_numerics,
            sparse=sparse,
            skip_nonfinite=skip_nonfinite,
            reference=reference,
        )
        return plan

    @tf.autograph.experimental.do_not_convert
    def minimize(
        self,
        optimizer: Any,
        var_list: Sequence[Any],
        seeds: Any,
        *,
        global_step: Any | None = None,
        **options: Any,
    ) -> tf.Operation:
        """Adds the backward pass of all micro-batches, and one update by its gradients.

        Args:
            optimizer: See `plan`.
            var_list: See `plan`.
            seeds: See `plan`.
            global_step: Variable to increment by one at the end of the step, or None.
            **options: Those of `plan`.

        Returns:
            The operation that runs the step. Inside a tf.function it runs by itself.

        Raises:
            SplitError: As `plan` does, with its subclasses.
        """
        return self.plan(optimizer, var_list, seeds, **options).apply(global_step=global_step)

    def _call(self, var_list: Sequence[Any], seeds: Any, penalty_seed: Any) -> Call:
        """The checked arguments; the penalty is the last of the intermediate vectors."""
        caller = "MicroBatches.plan"
        call = check_call(self.iv, var_list, seeds, caller)
        if self.penalty is None:
            if penalty_seed is not None:
                raise SplitError(
                    "penalty_seed needs a second part with a penalty: MicroBatches(..., "
                    f'penalty="sum"). Received: {describe(penalty_seed)}.'
                )
            return call
        of_penalty = check_call(self.penalty, var_list, penalty_seed, caller)
        return dataclasses.replace(
            call, ivs=call.ivs + of_penalty.ivs, seeds=call.seeds + of_penalty.seeds
        )


def _check_not_in_xla(graph: Any) -> None:
    if in_xla(graph):
        raise SplitError(
            "MicroBatches takes a number of chunks that XLA does not know: call it in a "
            "tf.function without jit_compile. Received: jit_compile=True."
        )
