"""What a part's folder in a checkpoint says of itself, and how damage is seen."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from splitop._src.errors import CheckpointError

MANIFEST = "manifest.json"
FORMAT = 1
_BLOCK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Saved:
    """A variable, or other state, as it was saved.

    Attributes:
        name: What the user calls it, for messages.
        dtype: Name of its dtype; of what is no variable, that of its class.
        shape: Its shape; None: unknown, or it is no variable.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        """As messages tell it."""
        return self.dtype if self.shape is None else f"{self.dtype} {list(self.shape)}"


@dataclasses.dataclass(frozen=True)
class SavedOptimizer:
    """What it takes to create an optimizer's state.

    Attributes:
        name: Name of its class.
        trains: Keys of the variables that it has state for, in its order.
    """

    name: str
    trains: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A part in a checkpoint.

    Attributes:
        part: Its name.
        step: The step stamp.
        variables: All that was saved, by its key.
        optimizers: The optimizers among it, by the beginning of their variables' keys.
    """

    part: str
    step: int
    variables: Mapping[str, Saved]
    optimizers: Mapping[str, SavedOptimizer]


def write(folder: pathlib.Path, manifest: Manifest) -> None:
    """Writes the manifest of a part's folder, in which all other files are complete."""
    files = {path.name: _fingerprint(path) for path in sorted(folder.iterdir())}
    content = {"format": FORMAT, **dataclasses.asdict(manifest), "files": files}
    (folder / MANIFEST).write_text(_render(content))


def read(folder: pathlib.Path) -> Manifest:
    """Reads the manifest of a part's folder, and checks every file in it.

    Raises:
        CheckpointError: Something is damaged, missing, or from a newer version.
    """
    text = (folder / MANIFEST).read_bytes()
    try:
        content = json.loads(text)
        content.pop("sha256")
        intact = _render(content).encode() == text
    except (ValueError, KeyError, AttributeError, TypeError):
        intact = False
    if not intact:
        raise _damaged(folder / MANIFEST, "what was saved", "other bytes")
    if content["format"] != FORMAT:
        raise CheckpointError(
            f"the checkpoint {str(folder)!r} must have format {FORMAT}: it was made by another "
            f"version of splitop. Received: format {content['format']}."
        )
    for name, expected in content["files"].items():
        _check(folder / name, expected)
    return Manifest(
        content["part"],
        content["step"],
        {key: Saved(**_with_shape(value)) for key, value in content["variables"].items()},
        {
            key: SavedOptimizer(value["name"], tuple(value["trains"]))
            for key, value in content["optimizers"].items()
        },
    )


def _with_shape(value: dict[str, Any]) -> dict[str, Any]:
    shape = value["shape"]
    return {**value, "shape": None if shape is None else tuple(shape)}


def _render(content: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return json.dumps({**content, "sha256": digest}, indent=1, sort_keys=True) + "\n"


def _fingerprint(path: pathlib.Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return {"bytes": os.path.getsize(path), "sha256": digest.hexdigest()}


def _check(path: pathlib.Path, expected: Mapping[str, Any]) -> None:
    try:
        size = os.path.getsize(path)
        received = _fingerprint(path) if size == expected["bytes"] else {"bytes": size}
    except OSError as error:
        raise _damaged(path, f"{expected['bytes']} bytes", f"{error.strerror}") from error
    if received["bytes"] != expected["bytes"]:
        raise _damaged(path, f"{expected['bytes']} bytes", f"{size} bytes")
    if received != expected:
        raise _damaged(path, "the bytes that were saved", "others")


def _damaged(path: pathlib.Path, expected: str, received: str) -> CheckpointError:
    return CheckpointError(
        f"a checkpoint is damaged: {str(path)!r} must hold {expected}; restore an earlier step. "
        f"Received: {received}."
    )
