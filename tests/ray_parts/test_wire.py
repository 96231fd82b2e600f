"""What crosses between the parties: IV, dL/dIV, keys and losses, and no class of a party's code."""

from __future__ import annotations

import io
import pathlib
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from splitop._src.parties.compression import COMPRESSIONS, Sent
from splitop._src.parties.messages import Message, Reply
from splitop.ray import Party, Trainer
from tests.ray_parts import parts, wrong
from tests.ray_parts.local import LocalLink
from tests.ray_parts.test_protocol import BATCHES, MODULE

PACKAGES = ("numpy", "ml_dtypes", "splitop")


class Unpickler(pickle.Unpickler):
    """Notes all classes and functions that are needed."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.found: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        self.found.add(f"{module}.{name}")
        return super().find_class(module, name)


class PicklingLink(LocalLink):
    """Sends nothing but pickles, as another machine would get it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.found: set[str] = set()
        self.sent: list[tuple[str, str, Any, Any]] = []
        self._parties = self._copy(self._parties)

    def repeat(self, party: str, method: str, *args: Any) -> Any:
        arguments = self._copy(args)
        result = self._copy(super().repeat(party, method, *arguments))
        self.sent.append((party, method, arguments, result))
        return result

    def _copy(self, value: Any) -> Any:
        unpickler = Unpickler(pickle.dumps(value, protocol=5))
        result = unpickler.load()
        self.found |= unpickler.found
        return result


def arrays(value: Any) -> Iterator[np.ndarray]:
    """All arrays in what is sent."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, dict):
        yield from arrays(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from arrays(item)
    elif isinstance(value, (Message, Reply, Sent)):
        yield from arrays(list(vars(value).values()))


def train(folder: pathlib.Path, bank: str, head: str, **options: Any) -> PicklingLink:
    links: list[PicklingLink] = []

    def link(*arguments: Any) -> PicklingLink:
        links.append(PicklingLink(*arguments))
        return links[0]

    trainer = Trainer(
        Party("head", head, folder / "head"),
        [Party("bank", bank, folder / "bank")],
        link=link,
        **options,
    )
    trainer.train(BATCHES, 2)
    trainer.predict(parts.KEYS[:3])
    for name in links[0].found:
        assert name.split(".")[0] in PACKAGES, name
    return links[0]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_arrays_that_cross(tmp_path: pathlib.Path, compression: str | None) -> None:
    """Each is the keys, or of the shape of IV (6 wide; an input has 7), or a scale."""
    link = train(tmp_path, f"{MODULE}:bank", f"{MODULE}:head", compression=compression)
    assert {method for _, method, _, _ in link.sent} == {
        *("place", "start", "restore", "forward", "step", "update", "save", "encode", "predict")
    }
    count = 0
    for party, method, arguments, result in link.sent:
        for array in arrays([arguments, result]):
            count += 1
            if array.dtype.kind == "U":
                assert set(array) <= set(parts.KEYS)
            elif array.shape[1:] == (parts.CLASSES,):
                assert (party, method) == ("head", "predict")
            elif array.shape[1:] == (6,):
                assert len(array) in (3, 12)
            else:
                assert array.size == 1 or (array.size == 12 and compression == "int8")
    assert count > 10
    for party, method, _, result in link.sent:
        if party == "bank" and method == "update":
            assert result == Reply()


def test_classes_stay_at_home(tmp_path: pathlib.Path) -> None:
    """An IV in a namedtuple comes as a tuple."""
    assert issubclass(wrong.Halves, tuple)
    module = "tests.ray_parts.wrong"
    link = train(tmp_path, f"{module}:in_a_class", f"{module}:of_two")
    ivs = [result[1] for _, method, _, result in link.sent if method in ("forward", "encode")]
    assert [iv.structure for iv in ivs] == 3 * [(0, 0)]
