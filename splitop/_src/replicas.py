"""The replicas that take one step together under a tf.distribute strategy.

TensorFlow builds the step once for each replica, in a thread of its own. Each has copies of the
variables, of the optimizer's state too, which stay the same as all are updated by the same values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from splitop._src.errors import SplitError
from splitop._src.names import variable_name

# One variable for all replicas, as there is one replica only.
_ONE_DEVICE = (tf.distribute.OneDeviceStrategy, tf.compat.v1.distribute.OneDeviceStrategy)
_MIRRORED = (
    tf.distribute.MirroredStrategy,
    tf.compat.v1.distribute.MirroredStrategy,
    tf.distribute.MultiWorkerMirroredStrategy,
)
_FUSED = (*_ONE_DEVICE, *_MIRRORED)


def strategy_reason() -> str | None:
    """Why nothing is fused under the current strategy, or None."""
    strategy = tf.distribute.get_strategy()
    if not tf.distribute.has_strategy() or isinstance(strategy, _FUSED):
        return None
    names = "MirroredStrategy, MultiWorkerMirroredStrategy, OneDeviceStrategy"
    return f"inside a tf.distribute strategy ({_name(strategy)}; fused: {names})"


def distributed_reason(variable: tf.Variable) -> str | None:
    """Why a variable that a strategy has created can't be updated here, or None."""
    strategy = getattr(variable, "_distribute_strategy", None)
    if strategy is None or isinstance(strategy, _ONE_DEVICE):
        return None
    if isinstance(strategy, _MIRRORED) and strategy is tf.distribute.get_strategy():
        return None
    return f"variable of a tf.distribute strategy ({_name(strategy)}), outside of its replicas"


def own_copy(variable: tf.Variable) -> tf.Variable:
    """The copy of a variable that belongs to the replica being built; elsewhere the variable."""
    on_replica = tf.distribute.get_replica_context() is not None
    mirrored = on_replica and isinstance(tf.distribute.get_strategy(), _MIRRORED)
    if mirrored and isinstance(variable, tf.distribute.DistributedValues):
        return variable._get_on_device_or_primary()
    return variable


def take_turns_in_gradients() -> bool:
    """Whether another replica may be built while tf.gradients runs for this one.

    So it is where the gradient of a sum over the replicas is TensorFlow's merge_call.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return False
    return bool(context.strategy.extended._use_merge_call())


def devices_of_worker() -> tuple[str, ...]:
    """The devices of this process under a strategy that spans several of them."""
    strategy = tf.distribute.get_strategy()
    several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    return tuple(strategy.extended.worker_devices) if several else ()


def was_created_elsewhere(variable: tf.Variable) -> bool:
    """Whether a variable has no copies on the replicas of the current strategy."""
    strategy = tf.distribute.get_strategy()
    if not isinstance(strategy, _MIRRORED):
        return False
    return not strategy.extended.variable_created_in_scope(variable)


def check_in_scope(variables: Sequence[tf.Variable], owner: str) -> None:
    """Raises SplitError for a variable that each replica would update once more.

    Args:
        variables: The variables.
        owner: What they are, for the message, such as "optimizer 'adam'".
    """
    for variable in variables:
        if was_created_elsewhere(variable):
            raise SplitError(
                f"{owner} must be created under `with strategy.scope():` of the "
                f"{_name(tf.distribute.get_strategy())}, as the model is. "
                f"Received: {variable_name(variable)}, from outside of it"
            )


def check_one_replica(caller: str) -> None:
    """Raises SplitError under a strategy of several replicas."""
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync > 1:
        raise SplitError(
            f"{caller} trains on one replica: the parts exchange their gradients one after the "
            "other, in an order that TensorFlow does not keep among several replicas. Create and "
            f"train it outside of the tf.distribute strategy. Received: {in_words(strategy)}."
        )


def in_words(strategy: Any) -> str:
    """A strategy of several replicas, for a message."""
    return f"a {_name(strategy)} of {strategy.num_replicas_in_sync} replicas"


def check_context(caller: str) -> None:
    """Raises SplitError in a strategy's scope, but outside of its replicas."""
    if tf.distribute.in_cross_replica_context():
        raise SplitError(
            f"splitop.{caller} builds the step of one replica of a tf.distribute strategy: call it "
            "in a function that is given to strategy.run. Received: a call in the scope of a "
            f"{_name(tf.distribute.get_strategy())}, outside of strategy.run."
        )


def in_calling_thread(function: Callable[[], Any]) -> Any:
    """What `function` returns in the thread that has called strategy.run, once for all replicas.

    Raises:
        SplitError: In a graph inside of that which the replicas build.
    """
    in_replica = tf.distribute.get_replica_context() is not None
    fused = in_replica and isinstance(tf.distribute.get_strategy(), _FUSED)
    if not (fused and wait_for_each_other()):
        return function()
    return _merge(lambda strategy: _Opaque(function())).value


def for_all(function: Callable[..., Any], *args: Any) -> Any:
    """Runs a function once for all replicas, with the strategy; without one, with None."""
    return _merge(function, *args) if wait_for_each_other() else function(None, *args)


def wait_for_each_other() -> bool:
    """Whether replicas are built by turns, and meet wherever one needs the others."""
    return not tf.__internal__.distribute.strategy_supports_no_merge_call()


def run_if(condition: tf.Tensor, run: Callable[[], tf.Operation | None]) -> Any:
    """Has what each replica's `run` adds to the graph run if the condition holds.

    A replica can't wait for the others inside a tf.cond of its own: there is one for all of them.

    Args:
        condition: A boolean scalar, the same on all replicas.
        run: Gives an operation, or None in a tf.function, which runs all that it adds.
    """

    def done() -> tf.Tensor:
        operation = run()
        with tf.control_dependencies([] if operation is None else [operation]):
            return tf.constant(True)

    def in_all(strategy: Any, condition: Any, done: Any) -> tf.Operation:
        def branch() -> tf.Tensor:
            results = strategy.extended.call_for_each_replica(lambda one: one(), args=(done,))
            return tf.reduce_all(tf.stack(strategy.experimental_local_results(results)))

        holds = strategy.experimental_local_results(condition)[0]
        return tf.cond(holds, branch, lambda: tf.constant(False)).op

    return _merge(in_all, tf.identity(condition), done)


@dataclasses.dataclass(frozen=True)
class Replicas:
    """More than one replica; every method is to be called by all of them, in the same order.

    Attributes:
        count: How many there are, on all machines.
    """

    count: int

    def share(self, value: Any) -> tuple[Any, ...]:
        """What each replica of this process gives, in the same order to all of them.

        Raises:
            SplitError: In a graph inside of that which the replicas build.
        """
        merged = _merge(
            lambda strategy, boxes: _Opaque(strategy.experimental_local_results(boxes)),
            _Opaque(value),
        )
        return tuple(box.value for box in merged.value)

    def all_reduce(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The sum of each tensor over all replicas: the same bits on each of them."""

        def reduce(strategy: Any, *values: Any) -> Any:
            pairs = [(value, _where(value)) for value in values]
            return tuple(strategy.extended.batch_reduce_to(tf.distribute.ReduceOp.SUM, pairs))

        sums: dict[int, tf.Tensor] = {}
        # TensorFlow puts the tensors of a call one after the other into one.
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            of_dtype = {at: t for at, t in enumerate(tensors) if t.dtype == dtype}
            sums.update(zip(of_dtype, _merge(reduce, *of_dtype.values()), strict=True))
        return [sums[at] for at in range(len(tensors))]

    def all_gather(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The rows of each tensor on all replicas, in the same order on each of them."""
        if not tensors:
            return []

        def gather(strategy: Any, *values: Any) -> Any:
            return tuple(
                strategy.extended._gather_to(value, _where(value), axis=0) for value in values
            )

        gathered = _merge(gather, *tensors)
        for tensor, whole in zip(tensors, gathered, strict=True):
            whole.set_shape([None, *tensor.shape[1:]])
        return list(gathered)


def replicas() -> Replicas | None:
    """The replicas of the step that is being built; None if there is only one."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return None
    return Replicas(context.num_replicas_in_sync)


@dataclasses.dataclass(frozen=True, eq=False)
class _Opaque:
    """A value that TensorFlow passes between replicas as it is."""

    value: Any


def _merge(function: Callable[..., Any], *args: Any) -> Any:
    """Runs a function once for all replicas, in the thread that has called strategy.run."""
    graph = tf.compat.v1.get_default_graph()
    context = tf.distribute.get_replica_context()
    try:
        context.merge_call(lambda strategy: None)
    except RuntimeError as error:
        raise SplitError(
            "under a tf.distribute strategy a step is built by the function that strategy.run is "
            "given: not inside a tf.cond, a tf.while_loop or a tf.function in there. Put these "
            f"around strategy.run. Received: the graph {graph.name!r}."
        ) from error
    return context.merge_call(function, args=args)


def _where(value: Any) -> Any:
    """Where TensorFlow is to put the combination of a value: where its parts are."""
    return value if isinstance(value, tf.distribute.DistributedValues) else value.device


def _name(strategy: Any) -> str:
    return type(strategy).__name__
