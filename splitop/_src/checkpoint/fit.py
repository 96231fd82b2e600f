"""Whether a checkpoint fits a part; before anything is overwritten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from splitop._src.checkpoint.manifest import Manifest, Saved
from splitop._src.checkpoint.state import State, TF1Optimizer
from splitop._src.errors import CheckpointError

_FEW = 3


def check_fit(state: State, manifest: Manifest) -> tuple[str, ...]:
    """Checks that a part is that of a checkpoint.

    Args:
        state: The part's state as it is now.
        manifest: The part in the checkpoint.

    Returns:
        The optimizers that have no state yet, which is left out; see `build_optimizers`.

    Raises:
        CheckpointError: The part has other variables or optimizers.
    """
    _check_optimizers(state, manifest)
    unbuilt: tuple[str, ...] = ()
    if tf.executing_eagerly():  # A graph has all of it, or no session could.
        unbuilt = tuple(
            path
            for path, saved in manifest.optimizers.items()
            if saved.trains and not _is_built(state.optimizers[path])
        )
    _check_variables(state.saved(), manifest, unbuilt)
    return unbuilt


def build_optimizers(state: State, manifest: Manifest, paths: Sequence[str]) -> None:
    """Creates the slots of optimizers as their first step would.

    Args:
        state: The part's state, of which the variables fit.
        manifest: The part in the checkpoint.
        paths: What `check_fit` has returned.

    Raises:
        CheckpointError: They train variables that are not in the part.
    """
    for path in paths:
        _build(state, path, manifest)


def _is_built(optimizer: Any) -> bool:
    if isinstance(optimizer, TF1Optimizer):
        return bool(optimizer.variables())
    return bool(optimizer.built)


def _build(state: State, path: str, manifest: Manifest) -> None:
    optimizer, keys = state.optimizers[path], manifest.optimizers[path].trains
    missing = [key for key in keys if key not in state.given]
    if missing:
        raise CheckpointError(
            f'optimizer "{path}" of the part "{manifest.part}" has no state yet, and must have it '
            "before it is restored, as it trains variables that are not in the part: call "
            "optimizer.build(variables). "
            f"Received: no {_few([manifest.variables[key].name for key in missing])}."
        )
    if isinstance(optimizer, TF1Optimizer):
        optimizer._create_slots([state.variables[key] for key in keys])
    elif not optimizer.built:  # An optimizer around it may have built it.
        with keras.name_scope(optimizer.name, caller=optimizer):
            optimizer.build([state.given[key] for key in keys])


def _check_optimizers(state: State, manifest: Manifest) -> None:
    expected = {path: saved.name for path, saved in manifest.optimizers.items()}
    received = {path: saved.name for path, saved in state.saved_optimizers().items()}
    if expected != received:
        raise CheckpointError(
            f"{_start(manifest)}: it must have {_optimizers(expected)}, as when it was saved. "
            f"Received: {_optimizers(received)}."
        )


def _check_variables(
    received: Mapping[str, Saved], manifest: Manifest, unbuilt: Sequence[str]
) -> None:
    """Compares all variables but those of optimizers that have none yet."""

    def counts(key: str) -> bool:
        return not any(key.startswith(f"{path}/") for path in unbuilt)

    expected = manifest.variables
    missing = [expected[key].name for key in expected if counts(key) and key not in received]
    if missing:
        raise CheckpointError(
            f"{_start(manifest)}: it must have the variables {_few(missing)} too (a model that is "
            f"not built has none). Received: {len(received)} variables of {len(expected)}."
        )
    for key, saved in received.items():
        if not counts(key):
            continue
        if key not in expected:
            raise CheckpointError(
                f'{_start(manifest)}, which must have variable "{saved.name}" ({key}) too. '
                f"Received: a checkpoint with {_few([v.name for v in expected.values()])}."
            )
        if (saved.dtype, saved.shape) != (expected[key].dtype, expected[key].shape):
            raise CheckpointError(
                f'{_start(manifest)}: variable "{saved.name}" must be {expected[key]}, as '
                f'"{expected[key].name}" in the checkpoint. Received: {saved}.'
            )


def _start(manifest: Manifest) -> str:
    return f'the part "{manifest.part}" does not fit the checkpoint of step {manifest.step}'


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(names[:_FEW]) + more


def _optimizers(names: Mapping[str, str]) -> str:
    listed = ", ".join(f'"{path}" of {name}' for path, name in names.items())
    return f"the optimizers {listed}" if listed else "no optimizer"
