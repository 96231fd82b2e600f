"""All state of a part: the variables that a checkpoint must hold, by stable keys.

tf.train.Checkpoint would find them by itself, but for the state of Keras' random layers (dropout)
and the slots that a TF1 optimizer has for a Keras model: these it leaves out without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

from splitop._src.checkpoint.manifest import Saved, SavedOptimizer
from splitop._src.errors import CheckpointError
from splitop._src.names import describe, variable_name

TF1Optimizer = tf.compat.v1.train.Optimizer
OPTIMIZERS = (keras.optimizers.Optimizer, TF1Optimizer)
_OTHER_STATE = (
    tf.data.Iterator,
    tf.lookup.experimental.DenseHashTable,
    tf.lookup.experimental.MutableHashTable,
)
# A Keras optimizer's further lists of its slots, and of what it trains.
_COPIES = ("_variables", "_trainable_variables", "_trainable_variables_indices")
_COUNT = re.compile(r"_\d+$")
# What tf.train.Checkpoint means something else by.
_RESERVED = ("root", "save_counter")


class State:
    """The state of a part as it is now.

    Attributes:
        variables: tf.Variable objects, and other state, by their keys.
        given: The same with the user's own objects: a keras.Variable for its tf.Variable.
        optimizers: By the beginning of their variables' keys.
    """

    def __init__(self, part: str, values: Mapping[str, Any]):
        """Collects the state.

        Args:
            part: The part's name.
            values: Trackable objects by name; see `check_values`.

        Raises:
            CheckpointError: A TF1 optimizer trains variables that the part has not.
        """
        self.variables: dict[str, Any] = {}
        self.given: dict[str, Any] = {}
        self.optimizers: dict[str, Any] = {}
        self._seen: dict[int, Any] = {}  # Objects by id; keeps them alive.
        self._root = tf.train.Checkpoint(**values)
        self._view = tf.train.TrackableView(self._root)
        self._visit_children("", self._root)
        # Last, as they refer to the variables that they train.
        done: set[str] = set()
        while todo := [path for path in self.optimizers if path not in done]:
            done.add(todo[0])
            self._visit_optimizer(part, todo[0], self.optimizers[todo[0]])
        for path, optimizer in self.optimizers.items():
            for number, variable in enumerate(_trained(optimizer)):
                self._visit(f"{path}/trained/{number}", variable)

    def check_eager(self, part: str) -> None:
        """Raises CheckpointError for a variable of a TF1 graph."""
        for key, variable in self.variables.items():
            if isinstance(variable, tf.Variable) and _is_of_a_graph(variable):
                raise CheckpointError(
                    f'the part "{part}" has variables of a TF1 graph: pass session=... . '
                    f"Received: no session, and {variable_name(self.given[key])}."
                )

    def saved(self) -> dict[str, Saved]:
        """What a manifest says of the variables."""
        return {key: _saved(value, self.given[key]) for key, value in self.variables.items()}

    def saved_optimizers(self) -> dict[str, SavedOptimizer]:
        """What a manifest says of the optimizers."""
        return {
            path: SavedOptimizer(type(optimizer).__name__, self._trains(optimizer))
            for path, optimizer in self.optimizers.items()
        }

    def _trains(self, optimizer: Any) -> tuple[str, ...]:
        if isinstance(optimizer, TF1Optimizer):
            names = optimizer.get_slot_names()
            return tuple(
                key
                for key, variable in self.variables.items()
                if any(_slot(optimizer, variable, name) is not None for name in names)
            )
        keys = {id(value): key for key, value in self.variables.items()}
        return tuple(keys[id(_tensorflow(v))] for v in _trained(optimizer))

    def _visit(self, key: str, node: Any) -> None:
        value = _tensorflow(node)
        if id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if isinstance(value, (tf.Variable, *_OTHER_STATE)):
            self.variables[key] = value
            self.given[key] = node
        elif isinstance(value, OPTIMIZERS):
            self.optimizers[key] = value
        else:
            self._visit_children(key, value)

    def _visit_children(self, path: str, node: Any) -> None:
        for name, child in self._children(node):
            self._visit(f"{path}/{name}" if path else name, child)

    def _children(self, node: Any) -> Iterator[tuple[str, Any]]:
        """Parts of an object, by names that another process gives them too."""
        is_layer = isinstance(node, keras.Layer)
        if is_layer:
            for number, variable in enumerate(node.variables):
                name = _COUNT.sub("", variable.name)  # Keras counts nameless ones in a process.
                yield f"{number}/{name}", variable
        for name, child in self._view.children(node).items():
            # What a compiled model has besides is no state of the part.
            if is_layer and isinstance(child, (*OPTIMIZERS, keras.metrics.Metric)):
                continue
            if isinstance(child, tf.Variable) and name.isdigit() and not tf.executing_eagerly():
                name = child.op.name  # Of a list; the place in it may change, the name won't.
            yield name, child

    def _visit_optimizer(self, part: str, path: str, optimizer: Any) -> None:
        for name, child in self._view.children(optimizer).items():
            if name not in _COPIES:
                self._visit(f"{path}/{name}", child)
        if not isinstance(optimizer, TF1Optimizer):
            for number, variable in enumerate(optimizer.variables):
                self._visit(f"{path}/variables/{number}", variable)
            return
        for name in sorted(optimizer.get_slot_names()):
            for key, variable in list(self.variables.items()):
                slot = _slot(optimizer, variable, name)
                if slot is not None:
                    self._visit(f"{path}/{name}/{key}", slot)
        for slot in optimizer.variables():
            if id(slot) not in self._seen:
                raise CheckpointError(
                    f'the part "{part}" must hold the variables that its optimizer "{path}" '
                    f"trains. Received: no variable that {slot.name} is a slot of."
                )


def check_values(part: str, values: Mapping[str, Any]) -> None:
    """Raises CheckpointError for a value that TensorFlow can't track, or can't by that name."""
    for name, value in values.items():
        if not name.isidentifier() or name in _RESERVED:
            raise CheckpointError(
                f'names in the part "{part}" must be Python names, other than '
                f"{' and '.join(_RESERVED)}. Received: {name!r}."
            )
        try:
            tf.train.Checkpoint(**{name: value})
        except ValueError:
            raise CheckpointError(
                f'"{name}" of the part "{part}" must be a model, an optimizer, a variable, a '
                "tf.data iterator, or a list or dictionary of these. "
                f"Received: {describe(value)}."
            ) from None


def _tensorflow(node: Any) -> Any:
    """The tf.Variable of a keras.Variable; anything else as it is."""
    return node.value if isinstance(node, keras.Variable) else node


def _is_of_a_graph(variable: tf.Variable) -> bool:
    if getattr(variable, "_distribute_strategy", None) is not None:
        return False
    handle = getattr(variable, "handle", None)  # None: a reference variable.
    return handle is None or bool(tf.is_symbolic_tensor(handle))


def _trained(optimizer: Any) -> list[Any]:
    is_keras = isinstance(optimizer, keras.optimizers.Optimizer) and optimizer.built
    return list(optimizer._trainable_variables) if is_keras else []


def _slot(optimizer: Any, variable: Any, name: str) -> Any:
    return optimizer.get_slot(variable, name) if isinstance(variable, tf.Variable) else None


def _saved(value: Any, given: Any) -> Saved:
    if not isinstance(value, tf.Variable):
        return Saved(type(value).__name__, type(value).__name__, None)
    shape = None if value.shape.rank is None else tuple(value.shape.as_list())
    return Saved(variable_name(given), value.dtype.base_dtype.name, shape)
