"""What can be wrong is named, with the party, before anything is trained."""

from __future__ import annotations

import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop._src.parties.messages import failed
from splitop.ray import Batches, Party, Rows, Trainer
from tests.ray_parts import parts
from tests.ray_parts.local import LocalLink
from tests.ray_parts.test_protocol import BATCHES, make


def trainer_of(folder: pathlib.Path, head: str, encoder: str, **config: Any) -> Trainer:
    module = "tests.ray_parts.wrong"
    return Trainer(
        Party("head", f"{module}:{head}", folder / "head"),
        [Party("bank", f"{module}:{encoder}", folder / "bank", config)],
        link=LocalLink,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a b", "m:f", "/d"), "must be a Python name. Received: 'a b'"),
        (("bank", "m.f", "/d"), 'party "bank" must be "module:function"'),
        (("bank", parts.encoder, "/d"), 'party "bank" must be "module:function".*Received: <func'),
        (("bank", "m:f", "d"), "directory of the party \"bank\" must be an absolute path.*'d'"),
        (("bank", "m:f", None), "must be an absolute path"),
        (("bank", "m:f", "/d", [1]), 'config of the party "bank" must be a dictionary'),
        (("bank", "m:f", "/d", {}, 1, 0, "a"), 'resources of the party "bank" must be a dict'),
        (
            ("bank", "m:f", "/d", {"a": [{"b": print}]}),
            r"Received: config\['a'\]\[0\]\['b'\] = <bui",
        ),
        (("bank", "m:f", "/d", {"a": np.float32(1)}), "must be made of None, bool, int"),
        (("bank", "m:f", "/d", {"a": type("S", (str,), {})()}), "must be made of None, bool"),
        (("bank", "m:f", "/d", {1: 2}), "with str keys. Received: config = {1: 2}"),
        (("bank", "m:f", "/d", {}, -1), 'num_cpus of the party "bank" must be a number from 0.*-1'),
        (("bank", "m:f", "/d", {}, 1, True), 'num_gpus of the party "bank" must be.*True'),
        (
            ("bank", "m:f", "/d", {}, 1, 0, {"a": "1"}),
            r"resources\['a'\] of the party \"bank\" must be a number from 0. Received: '1'",
        ),
    ],
)
def test_parties(arguments: Any, message: str) -> None:
    with pytest.raises(splitop.SplitError, match=message):
        Party(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"staleness": -1}, "staleness must be a whole number from 0. Received: -1"),
        ({"staleness": True}, "staleness must be a whole number from 0. Received: True"),
        ({"save_every": 0}, "save_every must be a whole number from 1. Received: 0"),
        ({"keep": 1}, "keep must be a whole number from 2"),
        ({"restarts": 1.5}, "restarts must be a whole number"),
        (
            {"timeout": 0},
            r"timeout must be a number of seconds above 0, at most 1e\+09\. Received: 0",
        ),
        ({"start_timeout": float("inf")}, "start_timeout must be a number of seconds above 0"),
        ({"compression": "int4"}, '"float16", "bfloat16" or "int8". Received: \'int4\''),
    ],
)
def test_options(tmp_path: pathlib.Path, options: Any, message: str) -> None:
    with pytest.raises(splitop.SplitError, match=message):
        make(tmp_path, **options)


def test_other_arguments(tmp_path: pathlib.Path) -> None:
    party = Party("bank", "m:f", tmp_path)
    for first, seconds, message in (
        (party, [], "one Party or several"),
        (party, party, "one Party or several"),
        (party, ["bank"], "must be splitop.ray.Party. Received: 'bank'"),
        (party, [party], "a name of its own. Received: bank, bank"),
    ):
        with pytest.raises(splitop.SplitError, match=message):
            Trainer(first, seconds, link=LocalLink)
    trainer, _ = make(tmp_path, keep=np.int64(3), save_every=np.int32(2))
    with pytest.raises(splitop.SplitError, match="until must be a whole number from 0"):
        trainer.train(BATCHES, 1.5)  # type: ignore[arg-type]
    with pytest.raises(splitop.SplitError, match="keys of samples must be a list of integers or"):
        trainer.train(lambda _: [0.5], 1)
    with pytest.raises(splitop.SplitError, match="one at least"):
        trainer.predict([])
    assert len(trainer.train(BATCHES, np.int64(1))) == 1  # type: ignore[arg-type]
    trainer.close()
    with pytest.raises(splitop.SplitError, match=r"not have been closed. Received: a call after"):
        trainer.train(BATCHES, 2)


def test_ray_that_is_not_there() -> None:
    code = (
        "import sys; sys.modules['ray'] = None; import splitop.ray as r;"
        "p = lambda n: r.Party(n, 'm:f', '/d'); r.Trainer(p('a'), [p('b')])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'ImportError: splitop.ray needs Ray: pip install "ray>=2.55"' in run.stderr


def test_a_trainer_needs_no_tensorflow() -> None:
    code = (
        "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None;"
        "import splitop.ray as r; p = lambda n: r.Party(n, 'm:f', '/d');"
        "r.Trainer(p('a'), [p('b')], link=lambda *_: None)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_connection_to_ray(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # Another test may be connected.
    head, bank = (Party(name, "m:f", tmp_path) for name in ("head", "bank"))
    with pytest.raises(splitop.SplitError, match=r"call ray.init\(\) before"):
        Trainer(head, [bank])


@pytest.mark.parametrize(
    ("head", "encoder", "error", "message"),
    [
        ("head", "absent", "SplitError", '"bank" must be importable where the part runs'),
        ("head", "head", "SplitError", '"bank" must return a splitop.ray.SecondPart. Received'),
        ("encoder", "encoder", "SplitError", '"head" must return a splitop.ray.FirstPart'),
        ("head", "unbuilt", "SplitError", "must be a Keras model that is built"),
        ("head", "tf1", "SplitError", "must be a keras.optimizers.Optimizer"),
        ("head", "no_data", "SplitError", "must be a function of sample keys"),
        ("head", "raises", "PartError", "phase start of step 0. Received: KeyError: 'password'."),
        (
            "head",
            "keys_of_a_class",
            "SplitError",
            "str or int keys. Received: .* of Side",
        ),
        ("head", "few_rows", "AlignmentError", 'data of the party "bank" must have a row for each'),
        ("head", "no_rows_of_iv", "AlignmentError", 'iv of the party "bank" must have a row for'),
        ("head", "other_width", "PartError", '"head" has failed in the phase step of step 1'),
        ("head", "nan", "SeedError", "must be finite. Received: NaN or Inf"),
    ],
)
def test_parts_that_are_wrong(
    tmp_path: pathlib.Path, head: str, encoder: str, error: str, message: str
) -> None:
    trainer = trainer_of(tmp_path, head, encoder)
    with pytest.raises(splitop.SplitError, match=message) as caught:
        trainer.train(BATCHES, 3)
    assert type(caught.value).__name__ == error
    assert trainer.step == 0


@pytest.mark.parametrize(("missing", "party"), [({"bank": 5}, "bank"), ({"shop": 3}, "shop")])
def test_samples_that_are_missing(
    tmp_path: pathlib.Path, missing: dict[str, int], party: str
) -> None:
    """One party has fewer samples than the others."""
    module, names = "tests.ray_parts.parts", ("bank", "shop")
    trainer = Trainer(
        Party("head", f"{module}:head", tmp_path / "head", {"names": names}),
        [
            Party(
                name,
                f"{module}:encoder",
                tmp_path / name,
                {"name": name, "missing": missing.get(name, 0)},
            )
            for name in names
        ],
        link=LocalLink,
    )
    with pytest.raises(
        splitop.AlignmentError,
        match=rf'"{party}" has failed in the phase forward of step 2: .* 2 of 3 keys that are not '
        r"there: 'id-1', 'id-0'\.",
    ):
        trainer.train([["id-7", "id-9"], ["id-1", "id-20", "id-0"]].__getitem__, 2)


def test_rows() -> None:
    rows = Rows(
        np.array([7, 5, 9], np.uint8), {"a": np.arange(6).reshape(3, 2), "b": np.arange(1, 4)}
    )
    found = rows([9, 7, 9])
    np.testing.assert_array_equal(found["a"], [[4, 5], [0, 1], [4, 5]])
    np.testing.assert_array_equal(found["b"], [3, 1, 3])
    with pytest.raises(splitop.AlignmentError, match=r"1 of 2 keys that are not there: 8\."):
        rows([5, 8])
    with pytest.raises(splitop.AlignmentError, match="Received: 'x' more than once"):
        Rows(["x", "y", "x"], np.zeros(3))
    with pytest.raises(splitop.AlignmentError, match="a row for each of the 2 keys"):
        Rows(["x", "y"], np.zeros(3))
    with pytest.raises(splitop.SplitError, match="a list of integers or of strings"):
        Rows([[1, 2]], np.zeros(1))


def test_batches() -> None:
    batches = Batches(range(10), 4)
    assert batches.per_epoch == 3
    assert [batches(n).tolist() for n in (0, 2, 3)] == [[0, 1, 2, 3], [8, 9], [0, 1, 2, 3]]
    shuffled = Batches(range(10), 4, seed=1)
    epochs = [[key for n in range(e, e + 3) for key in shuffled(n).tolist()] for e in (0, 3)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(10))
    assert epochs[0] != epochs[1] != list(range(10))
    assert shuffled(4).tolist() == Batches(range(10), 4, seed=1)(4).tolist()
    with pytest.raises(splitop.SplitError, match="batch_size must be a whole number from 1"):
        Batches(range(3), 0)
    with pytest.raises(splitop.SplitError, match=r"batch_size must be .* Received: True \(bool\)"):
        Batches(range(3), True)
    assert Batches(range(3), np.int64(2)).per_epoch == 2
    with pytest.raises(splitop.SplitError, match=r"with a sign\. Received: 9223372036854775813"):
        Batches(np.array([1, 2**63 + 5], np.uint64), 2)
    with pytest.raises(splitop.AlignmentError, match="3 keys, of which 2 are different"):
        Batches(["a", "b", "a"], 2)


class Overflow(Exception):
    pass


@pytest.mark.parametrize("kind", ["TensorFlow's", "own", "bare"])
def test_messages_without_tracebacks(kind: str) -> None:
    """TensorFlow puts tracebacks into messages, in several forms."""

    @tf.function(input_signature=[tf.TensorSpec([None, None])])
    def run(x: Any) -> Any:
        if kind == "own":
            raise Overflow("too much")
        return tf.matmul(x, x)

    def fail() -> None:
        if kind == "bare":
            raise AssertionError
        run(tf.ones([2, 3]))

    with pytest.raises((tf.errors.OpError, Overflow, AssertionError)) as caught:
        fail()
    reply = failed(caught.value)
    assert "File" not in reply.text
    expected = {"TensorFlow's": "Matrix size-incompatible", "own": "too much", "bare": ""}[kind]
    assert expected in reply.text
    assert str(reply.error) not in reply.text
