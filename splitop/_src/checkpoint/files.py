"""Values of variables in TensorFlow's checkpoint files: eagerly, or of a session."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from splitop._src.errors import CheckpointError

# tf.train.load_checkpoint(folder/"variables") reads them, without splitop.
PREFIX = "variables"


class EagerFiles:
    """Of eager variables, by tf.train.Checkpoint."""

    def write(self, folder: pathlib.Path, variables: Mapping[str, Any]) -> None:
        """Writes all values into a folder."""
        tf.train.Checkpoint(**_nested(variables)).write(str(folder / PREFIX))

    def read(self, folder: pathlib.Path, variables: Mapping[str, Any]) -> None:
        """Sets all values from a folder."""
        checkpoint = tf.train.Checkpoint(**_nested(variables))
        checkpoint.read(str(folder / PREFIX)).assert_consumed()


class SessionFiles:
    """Of a TF1 graph's variables, by tf.compat.v1.train.Saver."""

    def __init__(self) -> None:
        self._savers: dict[tuple[Any, ...], Any] = {}

    def write(self, folder: pathlib.Path, variables: Mapping[str, Any], session: Any) -> None:
        """Writes all values of a session into a folder."""
        options = {"write_meta_graph": False, "write_state": False}
        self._saver(variables, session).save(session, str(folder / PREFIX), **options)

    def read(self, folder: pathlib.Path, variables: Mapping[str, Any], session: Any) -> None:
        """Sets all values of a session from a folder."""
        self._saver(variables, session).restore(session, str(folder / PREFIX))

    def _saver(self, variables: Mapping[str, Any], session: Any) -> Any:
        """One for the same variables: each one adds operations to the graph."""
        key = (session.graph, *((name, id(variable)) for name, variable in variables.items()))
        if key not in self._savers:
            others = [name for name, v in variables.items() if not isinstance(v, tf.Variable)]
            if others:
                raise CheckpointError(
                    "in a TF1 graph a part must be made of variables, optimizers and Keras "
                    f"models. Received: {', '.join(others)}."
                )
            if session.graph.finalized:
                raise CheckpointError(
                    "the first save or restore adds operations to the graph, and must come before "
                    "it is finalized. Received: a finalized graph."
                )
            self._savers[key] = tf.compat.v1.train.Saver(dict(variables), max_to_keep=None)
        return self._savers[key]


def _nested(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Dictionaries of dictionaries, so that the keys of the file are those of `variables`."""
    root: dict[str, Any] = {}
    for key, variable in variables.items():
        *folders, name = key.split("/")
        branch = root
        for folder in folders:
            branch = branch.setdefault(folder, {})
        branch[name] = variable
    return root
