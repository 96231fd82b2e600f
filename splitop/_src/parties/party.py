"""`splitop.ray.Party`: who holds a part, and what builds it there."""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from splitop._src.errors import SplitError
from splitop._src.names import describe

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_PLAIN = (type(None), bool, int, float, str)


@dataclasses.dataclass(frozen=True)
class Party:
    """Who holds a part: a process of its own, which builds the part from its own code and data.

    Attributes:
        name: A Python name, for messages; another one for each party.
        function: "module:function". It is imported where the part runs, called with `config`, and
            returns the part: a FirstPart or a SecondPart. No code is sent.
        directory: The folder of the part's checkpoints, where the part runs. A part that is
            restarted has to find it again.
        config: Keyword arguments of the function: None, bool, int, float, str, and lists, tuples
            and dictionaries of these.
        num_cpus: How many CPUs Ray reserves for the part.
        num_gpus: How many GPUs.
        resources: Ray's custom resources, by which a part is placed on its owner's machines:
            {"bank": 1} for one that was started with `ray start --resources='{"bank": 1}'`.
    """

    name: str
    function: str
    directory: str | os.PathLike[str]
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    num_cpus: float = 1
    num_gpus: float = 0
    resources: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks what can be checked here.

        Raises:
            SplitError: An argument is of another kind.
        """
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise SplitError(
                f"the name of a party must be a Python name. Received: {describe(self.name)}."
            )
        if not isinstance(self.function, str) or not _REFERENCE.fullmatch(self.function):
            raise SplitError(
                f'function of the party "{self.name}" must be "module:function", which is imported '
                f"where the part runs. Received: {describe(self.function)}."
            )
        if not isinstance(self.config, Mapping):
            raise SplitError(
                f'config of the party "{self.name}" must be a dictionary. '
                f"Received: {describe(self.config)}."
            )
        _check_plain(self.name, "config", self.config)

    def build(self) -> Any:
        """Calls the function; where the part runs.

        Raises:
            SplitError: There is no such function.
        """
        module, name = self.function.split(":")
        try:
            function = getattr(importlib.import_module(module), name)
        except (ModuleNotFoundError, AttributeError) as error:
            raise SplitError(
                f'function of the party "{self.name}" must be importable where the part runs. '
                f"Received: {self.function!r}: {error}."
            ) from error
        return function(**self.config)


def check_parties(first: Any, seconds: Any) -> tuple[Party, ...]:
    """The parties, the first part's first; their names must differ.

    Raises:
        SplitError: They are something else.
    """
    if not isinstance(seconds, Sequence) or not seconds:
        raise SplitError(
            f"seconds must be a list of one Party or several. Received: {describe(seconds)}."
        )
    parties = (first, *seconds)
    for party in parties:
        if not isinstance(party, Party):
            raise SplitError(
                f"first and seconds must be splitop.ray.Party. Received: {describe(party)}."
            )
    names = [party.name for party in parties]
    if len(set(names)) < len(names):
        raise SplitError(f"each party must have a name of its own. Received: {', '.join(names)}.")
    return parties


def _check_plain(party: str, path: str, value: Any) -> None:
    """Raises SplitError for a value that would be sent as an object: it could bring code along."""
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        for key, item in value.items():
            _check_plain(party, f"{path}[{key!r}]", item)
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            _check_plain(party, f"{path}[{number}]", item)
    elif type(value) not in _PLAIN:
        raise SplitError(
            f'config of the party "{party}" must be made of None, bool, int, float, str, lists, '
            f"tuples and dictionaries with str keys. Received: {path} = {describe(value)}."
        )
