"""`splitop.ray.Party`: who holds a part, and what builds it there."""

from __future__ import annotations

import dataclasses
import importlib
import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from splitop._src.errors import SplitError
from splitop._src.names import describe

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_PLAIN_TYPES = (type(None), bool, int, float, str)


@dataclasses.dataclass(frozen=True)
class Party:
    """Who holds a part: a process of its own, which builds the part from its own code and data.

    Attributes:
        name: A Python name, for messages; another one for each party.
        function: "module:function". It is imported where the part runs, called with `config`, and
            returns the part: a FirstPart or a SecondPart. No code is sent.
        directory: The folder of the part's checkpoints, where the part runs: an absolute path. A
            part that is restarted has to find it again.
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
        if not isinstance(self.directory, (str, os.PathLike)) or not os.path.isabs(self.directory):
            raise SplitError(
                f'directory of the party "{self.name}" must be an absolute path, of the machine '
                f"where the part runs. Received: {describe(self.directory)}."
            )
        for name in ("config", "resources"):
            if not isinstance(getattr(self, name), Mapping):
                raise SplitError(
                    f'{name} of the party "{self.name}" must be a dictionary. '
                    f"Received: {describe(getattr(self, name))}."
                )
            object.__setattr__(self, name, _plain(self.name, name, getattr(self, name)))
        amounts = {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus}
        amounts |= {f"resources[{key!r}]": value for key, value in self.resources.items()}
        for name, value in amounts.items():
            _check_amount(self.name, name, value)
        object.__setattr__(self, "directory", os.fspath(self.directory))

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


def _check_amount(party: str, name: str, value: Any) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= value < math.inf:
        raise SplitError(
            f'{name} of the party "{party}" must be a number from 0. Received: {describe(value)}.'
        )


def _plain(party: str, path: str, value: Any) -> Any:
    """A copy in Python's own types: an object of another class could bring code along.

    Raises:
        SplitError: There is such an object.
    """
    if isinstance(value, Mapping) and all(type(key) is str for key in value):
        return {key: _plain(party, f"{path}[{key!r}]", item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_plain(party, f"{path}[{number}]", item) for number, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    if type(value) in _PLAIN_TYPES:
        return value
    raise SplitError(
        f'{path.split("[")[0]} of the party "{party}" must be made of None, bool, int, float, str, '
        f"lists, tuples and dictionaries with str keys. Received: {path} = {describe(value)}."
    )
