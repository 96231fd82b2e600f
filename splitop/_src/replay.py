"""Whether a function can be run a second time with the same results, and what it writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from splitop._src.errors import CutError, SplitError
from splitop._src.graph import nested, reach
from splitop._src.names import variable_name
from splitop._src.validate import Call

_RANDOM = ("Random", "TruncatedNormal", "Multinomial")

_CANT = (
    "the second part runs once more for its gradients, so that everything it does must be "
    "repeatable"
)


def written_state(graph: Any, state: Sequence[tf.Variable]) -> list[tf.Variable]:
    """Those of `state` that a function writes; it must write nothing else.

    Args:
        graph: The function's FuncGraph.
        state: Variables that can be set back before the function runs again.

    Raises:
        SplitError: The function does something that can't be repeated.
    """
    _check_operations(graph)
    by_handle = {id(variable.handle): variable for variable in state}
    written = []
    for external, internal in graph.captures:
        if internal.dtype != tf.resource:
            continue
        writers = reach.writers(internal)
        if not writers:
            continue
        variable = by_handle.get(id(external))
        if variable is None:
            raise SplitError(_not_in_state(graph, external, writers[0]))
        written.append(variable)
    return written


class Reads:
    """What the second part reads from outside, to be the same when it runs once more."""

    def __init__(self, graph: Any, function: Any, inputs: Any, state: Sequence[tf.Variable]):
        """Takes note of all operations that there are now.

        Args:
            graph: The current graph.
            function: The FuncGraph of the second part.
            inputs: What it is called with, a nested structure of tensors.
            state: The variables that are set back before it runs again.
        """
        set_back = {id(variable.handle) for variable in state}
        outside = [external for external, _ in function.captures]
        self._function = function
        self._handles = [
            handle
            for handle in outside
            if handle.dtype == tf.resource and id(handle) not in set_back
        ]
        tensors = [*tf.nest.flatten(inputs, expand_composites=True), *outside]
        self._tensors = [
            tensor
            for tensor in tensors
            if tensor.dtype != tf.resource and getattr(tensor, "graph", None) is graph
        ]
        self._then = len(graph.get_operations())

    def check(self, call: Call) -> None:
        """Checks that the second part's gradients are all there is, at the values it has read.

        Raises:
            CutError: A variable of the call reaches the second part from outside.
            SplitError: A variable that it reads has been written since.
        """
        before = reach.ancestors(self._tensors, crosses=reach.passes_gradient)
        for item in call.variables:
            for op in reach.handle(call.graph, item.variable).consumers():
                if op in before and reach.passes_gradient(op):
                    raise CutError(
                        f'variable "{item.name}" also reaches {call.iv_label} from outside of '
                        "second_part, through inputs or a tensor that it takes from outside, and "
                        "that part of its gradient would be lost: compute it in second_part. "
                        f"Received: {' -> '.join(reach.path_names(before, op))}."
                    )
        if not call.graph.building_function:
            return  # A TF1 graph has no order.
        since = set(call.graph.get_operations()[self._then :])
        for handle in self._handles:
            for op in reach.writers(call.graph.capture(handle)):
                if op in since:
                    raise SplitError(
                        "the second part must read the same values in both passes: plan its step "
                        "before anything writes them, and train shared variables in one step. "
                        f'Received: {op.type} "{op.name}", which writes '
                        f'"{_name(self._function, handle)}" after the forward pass.'
                    )


def _check_operations(graph: Any) -> None:
    """Raises SplitError for an operation whose second run may differ from the first one."""
    for found in nested.operations(graph, graph.get_operations()):
        if not found.stateful or found.type in nested.CALLS or found.type in nested.HARMLESS:
            continue
        if _takes_resource(found.type):
            continue  # What it may write is seen where the resource comes from.
        cure = "compute what it returns before, and pass it as a part of inputs"
        if any(word in found.type for word in _RANDOM):
            cure = (
                "draw with tf.random.stateless_uniform and the like, by a Keras layer or by a "
                "tf.random.Generator, and pass what holds their seeds as state"
            )
        raise SplitError(f'{_CANT}; {cure}. Received: {found.type} "{found.name}".')


def _takes_resource(op_type: str) -> bool:
    definition = op_def_registry.get(op_type)
    return definition is not None and any(
        argument.type == tf.resource.as_datatype_enum for argument in definition.input_arg
    )


def _not_in_state(graph: Any, handle: Any, op: Any) -> str:
    name = _name(graph, handle)
    if name is None:
        cure, written = "compute what it returns before, and pass it as a part of inputs", ""
    else:
        cure = (
            "pass the variables that it writes as state (of a Keras model, "
            "model.non_trainable_variables)"
        )
        written = f', which writes "{name}"'
    return f'{_CANT}; {cure}. Received: {op.type} "{op.name}"{written}.'


def _name(graph: Any, handle: Any) -> str | None:
    """The name of the variable with this handle among those that a function uses."""
    names = [variable_name(each) for each in graph.variables if each.handle is handle]
    return names[0] if names else None
