"""How the CUDA dispatch cuts layers up: host arithmetic, tested without a device."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitop.lib import _kernels

# From the data sheets.
H100 = dict(
    name="NVIDIA H100 80GB HBM3",
    compute_capability=90,
    num_sms=132,
    l2_bytes=50 * 2**20,
    clock_hz=1_980_000_000,
    memory_bandwidth=3_350_000_000_000,
)
A100 = dict(
    name="NVIDIA A100-SXM4-80GB",
    compute_capability=80,
    num_sms=108,
    l2_bytes=40 * 2**20,
    clock_hz=1_410_000_000,
    memory_bandwidth=2_039_000_000_000,
)
DTYPES = [
    ("float32", "float32"),
    ("float64", "float64"),
    ("bfloat16", "float32"),
    ("float16", "float32"),
]
BYTES = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}
SLOTS = {"sgd": 0, "momentum": 1, "adam": 2}

sizes = st.one_of(
    st.integers(1, 300), st.sampled_from([512, 1000, 1024, 4096, 8192, 50_000, 200_000])
)


def plan(batch: int, inputs: int, outputs: int, **options: Any) -> dict[str, Any]:
    device = options.pop("device", H100)
    return _kernels.cuda_plan(device, batch, inputs, outputs, **{"rule": "adam", **options})


@given(
    device=st.sampled_from([H100, A100]),
    batch=sizes,
    inputs=sizes,
    outputs=sizes,
    dtypes=st.sampled_from(DTYPES),
    rule=st.sampled_from(list(SLOTS)),
    allow_tf32=st.booleans(),
    use_cublas=st.booleans(),
)
def test_any_layer(device, batch, inputs, outputs, dtypes, rule, allow_tf32, use_cublas) -> None:
    dtype, variable_dtype = dtypes
    made = plan(
        batch,
        inputs,
        outputs,
        device=device,
        dtype=dtype,
        variable_dtype=variable_dtype,
        rule=rule,
        allow_tf32=allow_tf32,
        use_cublas=use_cublas,
    )
    seconds = made["expected_seconds"]
    chosen = seconds.pop("auto")
    assert seconds[made["strategy"]] == chosen == min(seconds.values())
    assert 0 < chosen < math.inf

    # Nothing is faster than the bytes that it can't do without.
    moved = 2 * BYTES[variable_dtype] * (1 + SLOTS[rule]) * inputs * outputs
    assert chosen > moved / device["memory_bandwidth"]

    assert math.isinf(seconds["accumulate"]) == (rule != "sgd" or not use_cublas)
    assert math.isinf(seconds["chunks"]) == (inputs < 2 or not use_cublas)
    # A chunk is never the whole gradient, and stays in the cache unless a single row can't.
    assert made["chunk_rows"] <= inputs / 2
    row = outputs * BYTES[variable_dtype]
    assert made["chunk_rows"] <= 1 or made["chunk_rows"] * row <= 0.35 * device["l2_bytes"]

    rows_are_packs = inputs * BYTES[dtype] % 16 == 0 and outputs * BYTES[dtype] % 16 == 0
    assert not made["large_tile"] or (rows_are_packs and dtype != "float64")
    assert made["product_by_cublas"] == use_cublas
    assert 1 <= made["product_splits"] <= 16
    assert made["product_splits"] <= max(1, outputs)
    assert made["product_splits"] == 1 or not use_cublas


@pytest.mark.parametrize("device", [H100, A100], ids=["H100", "A100"])
def test_small_batches_take_tiles(device: dict[str, Any]) -> None:
    for rule in ("momentum", "adam"):
        assert plan(64, 4096, 4096, device=device, rule=rule)["strategy"] == "tiles"


@pytest.mark.parametrize("device", [H100, A100], ids=["H100", "A100"])
@pytest.mark.parametrize(("rule", "strategy"), [("adam", "chunks"), ("sgd", "accumulate")])
def test_where_arithmetic_binds_cublas_does_it(device, rule: str, strategy: str) -> None:
    assert plan(8192, 4096, 4096, device=device, rule=rule)["strategy"] == strategy
    assert plan(8192, 4096, 4096, device=device, rule=rule, use_cublas=False)["strategy"] == "tiles"


def test_few_tiles_are_small_ones() -> None:
    mixed = dict(dtype="bfloat16", variable_dtype="float32")
    assert not plan(64, 256, 256, **mixed)["large_tile"]
    assert plan(1024, 4096, 4096, **mixed)["large_tile"]


def test_a_product_with_few_tiles_is_split() -> None:
    assert plan(32, 256, 8192, use_cublas=False)["product_splits"] > 1
    assert plan(4096, 8192, 8192, use_cublas=False)["product_splits"] == 1


def test_what_cublas_can_not_count_goes_without() -> None:
    made = plan(2**31, 64, 64, use_cublas=True)
    assert made["strategy"] == "tiles"
    assert not made["product_by_cublas"]


@pytest.mark.parametrize(
    ("rule", "strategy", "use_cublas"),
    [("adam", "accumulate", True), ("sgd", "accumulate", False), ("adam", "chunks", False)],
)
def test_a_strategy_that_can_not_be_had(rule: str, strategy: str, use_cublas: bool) -> None:
    with pytest.raises(NotImplementedError):
        plan(64, 64, 64, rule=rule, strategy=strategy, use_cublas=use_cublas)


@pytest.mark.parametrize(
    "wrong",
    [
        dict(batch=0),
        dict(inputs=0),
        dict(outputs=-1),
        dict(dtype="bfloat16", variable_dtype="float64"),
        dict(dtype="float64"),
        dict(rule="lars"),
        dict(strategy="magic"),
    ],
    ids=str,
)
def test_bad_arguments(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be one of|invalid argument"):
        plan(**{**dict(batch=4, inputs=4, outputs=4), **wrong})
