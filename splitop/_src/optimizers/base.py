"""What the planner needs to know of an optimizer, whatever its flavour."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import tensorflow as tf

from splitop._src import replicas
from splitop._src.errors import SplitError, VariableListError
from splitop._src.names import describe
from splitop._src.optimizers.accumulation import Accumulation
from splitop._src.optimizers.rules import UpdateRule


@dataclasses.dataclass(frozen=True)
class GradientOptions:
    """What an optimizer does to the gradients of a step before its update rule.

    Attributes:
        clip: "value", "norm" (of each gradient) or "global_norm"; None: nothing is clipped.
        bound: To which magnitude or norm.
        loss_scale: Gives a scalar tensor by which every gradient is divided, before it is clipped;
            None: there is none.
        finite_only: Whether a step is left out if a gradient is not finite.
    """

    clip: str | None = None
    bound: float = 0.0
    loss_scale: Callable[[], tf.Tensor] | None = None
    finite_only: bool = False


class OptimizerAdapter(abc.ABC):
    """One optimizer object of the user's, seen through the fused op's eyes.

    An adapter owns no state: slots, hyperparameters, schedules and the iteration counter
    stay in the user's optimizer, so checkpoints move freely between the paths.

    For one step in one graph: `rule`, `declines`, `decayed` and `existing_slots` at any time;
    then `prepare`, then `slots` and `hyper`, then `finish`, each in the graph of the step.
    Variables are the user's own objects, tf.Variable or keras.Variable.

    An optimizer without a fused rule has an adapter too: `rule` says why, `finish` runs the
    optimizer's own step on all variables; `slots`, `hyper` and what concerns the rows of a
    tf.IndexedSlices are not for it.
    """

    @abc.abstractmethod
    def rule(self) -> UpdateRule | str:
        """The update rule of the op, or the reason why this optimizer has none here."""

    def gradient_options(self) -> GradientOptions:
        """What is done to the gradients before the rule; `finish` does so to the declined ones."""
        return GradientOptions()

    def accumulation(self) -> Accumulation | None:
        """How gradients are added up over several steps; None: every step updates."""
        return None

    @abc.abstractmethod
    def declines(self, variable: Any) -> str | None:
        """Why this one variable can't be updated by the op, or None."""

    @abc.abstractmethod
    def prepare(self, variables: Sequence[Any]) -> None:
        """Creates the slots of all `variables` (fused or not), as the optimizer itself would.

        Slots that exist are kept. The names of new ones derive from the name scope, so this
        is to be called in the user's own scope, with the variables in the user's order.

        Raises:
            VariableListError: A variable that this optimizer can't update.
            SplitError: The optimizer's state can't be used, or can't be created, in this graph.
        """

    def replaces(self, variable: Any) -> bool:
        """Whether a variable's gradient is its new value, which is neither scaled nor clipped."""
        return False

    def variable(self, variable: Any) -> tf.Variable:
        """What the rule updates."""
        return tf_variable(variable)

    @abc.abstractmethod
    def slots(self, variable: Any) -> tuple[tf.Variable, ...]:
        """The variable's slots, in the rule's order: resource variables.

        They have its shape, or of a row-wise rule one element for each row.
        """

    @abc.abstractmethod
    def existing_slots(self, variable: Any) -> tuple[tf.Variable, ...]:
        """Those of the variable's slots that are there already; new ones join the variable."""

    @abc.abstractmethod
    def decayed(self, variable: Any) -> bool:
        """Whether decoupled weight decay applies to the variable."""

    @abc.abstractmethod
    def updates_all_rows(self, variable: Any) -> bool:
        """Which rows of a table the optimizer itself updates from a tf.IndexedSlices.

        Returns:
            Whether it updates all rows, those without a slice as with a gradient of zero, or
            only the rows that have a slice. Either is what a run must go on with.
        """

    @abc.abstractmethod
    def adds_up_slices(self) -> bool:
        """How the optimizer itself takes several slices of one row of a tf.IndexedSlices.

        Returns:
            Whether the row is updated with the sum of its slices. If not, the optimizer takes
            the sum of g where the rule has g, but the sum of the squares (for Adamax: of the
            magnitudes) of the slices where it has g * g (or |g|), and likewise for Adadelta's
            step * step.
        """

    @abc.abstractmethod
    def hyper(self, dtype: tf.DType) -> tf.Tensor:
        """The rule's hyperparameters for this step: a tensor [len(rule.hyper)] of `dtype`.

        Built in the current graph, from the values the optimizer itself would use.
        """

    @abc.abstractmethod
    def finish(
        self,
        fused: Sequence[tf.Operation],
        declined: Sequence[tuple[Any, Any]],
        global_step: Any | None,
        condition: tf.Tensor | None = None,
    ) -> tf.Operation:
        """Updates the declined (gradient, variable) pairs and ends the step.

        Args:
            fused: Operations of the fused updates, which take `hyper`; the step's counters
                advance after them.
            declined: Pairs for the optimizer's own `apply_gradients`; a gradient is a tensor
                or a tf.IndexedSlices.
            global_step: Variable to increment by one, or None.
            condition: A boolean scalar, on which the fused updates depend as well: if it does not
                hold, no variable changes and no counter advances (but those of a loss scale);
                None: it always holds.

        Returns:
            One operation that runs the whole step; every counter advances once.
        """


def tf_variable(variable: Any) -> tf.Variable:
    """The tf.Variable behind a tf.Variable or keras.Variable; on a replica, its own copy.

    Raises:
        VariableListError: Something else, or a keras.Variable that has no value yet.
    """
    value = variable if isinstance(variable, tf.Variable) else getattr(variable, "value", None)
    if isinstance(value, tf.Variable):
        return replicas.own_copy(value)
    raise VariableListError(
        "Variables must be tf.Variable or keras.Variable objects, and built: call the model, or "
        f"its build(), first. Received: {describe(variable)}"
    )


def storage_reason(variable: tf.Variable) -> str | None:
    """Why the op can't reach the variable's memory, or None."""
    reason = replicas.distributed_reason(variable)
    if reason is not None:
        return reason
    if getattr(variable, "handle", None) is None:
        return (
            "reference variable, without a resource handle: call "
            "tf.compat.v1.enable_resource_variables() before creating it"
        )
    return None


def no_rule_reason(optimizer: Any, fused_classes: Collection[type]) -> str:
    """The reason for an optimizer whose class has no fused rule."""
    cls = type(optimizer)
    parent = next((base for base in cls.__mro__ if base in fused_classes), None)
    # A subclass may override the maths, so only the classes themselves are known.
    whose = f" (a subclass of {parent.__name__})" if parent else ""
    names = ", ".join(fused.__name__ for fused in fused_classes)
    return f"optimizer {cls.__name__}{whose} has no fused rule (fused: {names})"


@contextlib.contextmanager
def creating_slots(optimizer_name: str, cure: str) -> Iterator[None]:
    """Turns TensorFlow's refusal to create variables into a SplitError with the cure."""
    try:
        yield
    except ValueError as error:
        raise SplitError(
            f"optimizer '{optimizer_name}' can't create its slots here, as a tf.function creates "
            f"variables on its first call only: {cure}. Received: {error}"
        ) from error


def check_in_reach(variables: Sequence[tf.Variable], owner: str) -> None:
    """Raises SplitError for variables of another graph than the one being built.

    Args:
        variables: The variables.
        owner: What they are, for the message, such as "optimizer 'adam'".
    """
    for variable in variables:
        if not _in_reach(variable):
            raise SplitError(
                f"{owner} has state outside of the graph being built, which can't use it. "
                "Create the model, the optimizer and global_step in one place: all inside "
                "`with graph.as_default():`, or all eagerly for use in a tf.function. "
                f"Received: {variable.name}"
            )


def increment(counter: Any, condition: tf.Tensor | None = None) -> tf.Operation:
    """An operation that adds one to a variable, if the condition holds."""
    variable = tf_variable(counter)
    check_in_reach([variable], f"global_step '{variable.name}'")
    replicas.check_in_scope([variable], f"global_step '{variable.name}'")
    by = 1 if condition is None else tf.cast(condition, variable.dtype)
    return variable.assign_add(by, read_value=False)


def run_if(condition: tf.Tensor | None, run: Callable[[], tf.Operation | None]) -> Any:
    """Has what `run` adds to the graph run if the condition holds; None: always.

    What has to come before must not be left to control dependencies inside of `run`: TensorFlow
    drops those on operations outside of a branch.

    Args:
        condition: A boolean scalar, or None.
        run: Gives an operation, or None in a tf.function, which runs all that it adds.

    Returns:
        What `run` gives, or an operation that runs it.
    """
    if condition is None:
        return run()
    if replicas.wait_for_each_other():
        return replicas.run_if(condition, run)

    def branch() -> tf.Tensor:
        operation = run()
        with tf.control_dependencies([] if operation is None else [operation]):
            return tf.constant(True)

    return tf.cond(tf.identity(condition), branch, lambda: tf.constant(False)).op


def _in_reach(variable: tf.Variable) -> bool:
    distributed = getattr(variable, "_distribute_strategy", None) is not None
    if distributed or getattr(variable, "handle", None) is None:
        return True
    symbolic = tf.is_symbolic_tensor(variable.handle)
    with tf.init_scope():
        if tf.executing_eagerly():
            return not symbolic
        return symbolic and variable.handle.graph is tf.compat.v1.get_default_graph()
