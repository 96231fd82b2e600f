"""Nothing waits, allocates or uses the default stream: so a CUDA graph can capture the calls."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.accuracy import PRECISIONS, results
from tests.gpu.chains import (
    STRATEGIES,
    fetch,
    map_layer,
    options_for,
    rule_for,
    run_chain,
    to_kernel_layer,
)
from tests.gpu.devices import Device, Torch
from tests.gpu.kernels import kernels
from tests.gpu.memory import Memory
from tests.gpu.tables import TableCall, run_on_device
from tests.kernels.problems import make_problem
from tests.kernels.tables import Table, assert_tables_accurate, make_tables
from tests.kernels.updates import State, assert_update_accurate, make_update

REPLAYS = 3


@pytest.fixture
def torch(real_gpu: Device):
    if not isinstance(real_gpu, Torch):
        pytest.skip("captures by torch.cuda.graph")
    import torch

    kernels.cuda_warm_up()
    return torch


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_dense_chain(torch, device: Device, precision: str, strategy: str) -> None:
    problem = make_problem(
        PRECISIONS[precision], 24, (72, 130, 40), ["relu", "tanh"], [True] * 2, rule_for(strategy)
    )
    options = options_for(precision, strategy)
    memory = Memory(device)
    hyper = memory.put(problem.hyper)
    layers = [map_layer(layer, memory.put, memory.put) for layer in problem.layers]
    arguments = {
        "seed": memory.put(problem.seed),
        "layers": [to_kernel_layer(layer) for layer in layers],
        "rule": problem.rule,
        "hyper": hyper,
        **options,
    }
    scratch = memory.scratch(kernels.cuda_dense_chain_scratch_bytes(**arguments))
    run_chain(device, problem, input_gradient=False, **options)  # cuBLAS loads what it takes
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        stream = torch.cuda.current_stream().cuda_stream
        kernels.cuda_dense_chain(**arguments, scratch=scratch, stream=stream)

    def received() -> dict[str, np.ndarray]:
        torch.cuda.synchronize()
        return results(
            [fetch(memory, *pair) for pair in zip(layers, problem.layers, strict=True)], None
        )

    expected = list(problem.layers)
    assert_same(received(), results(expected, None))  # capturing runs nothing
    for replay in range(REPLAYS):
        now = (problem.hyper / (1 + replay)).astype(problem.hyper.dtype)
        hyper.copy_(torch.from_numpy(now))  # a captured call sees what is there when it runs
        graph.replay()
        step = dataclasses.replace(problem, hyper=now)
        expected, _ = run_chain(device, step, expected, input_gradient=False, **options)
        assert_same(received(), results(expected, None))
    memory.check()


def test_multi_tensor_update(torch, device: Device) -> None:
    update, state = make_update(PRECISIONS["float32"], [(7,), (300, 70), (3, 5)], "adam")
    memory = Memory(device)
    arguments = {
        "gradients": [memory.put(gradient) for gradient in update.gradients],
        "variables": [memory.put(variable) for variable in state.variables],
        "slots": [[memory.put(slot) for slot in slots] for slots in state.slots],
        "rule": update.rule,
        "hyper": memory.put(update.hyper),
        "decayed": update.decayed,
    }
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        stream = torch.cuda.current_stream().cuda_stream
        kernels.cuda_multi_tensor_update(**arguments, stream=stream)
    for _ in range(REPLAYS):
        graph.replay()
        torch.cuda.synchronize()
        after = State(
            tuple(map(memory.get, arguments["variables"], state.variables)),
            tuple(
                tuple(map(memory.get, *pair))
                for pair in zip(arguments["slots"], state.slots, strict=True)
            ),
        )
        assert_update_accurate(update, state, after)
        state = after
    memory.check()


@pytest.mark.parametrize("all_rows", [False, True])
def test_table_update(torch, device: Device, all_rows: bool) -> None:
    tables = [
        Table(rows=500, width=32, ids=2000, bags=70, combiner="mean", all_rows=all_rows, hot=900),
        Table(rows=9000, width=7, ids=6000, all_rows=all_rows),
    ]
    update, state = make_tables("float32", tables, "adam")
    run_on_device(device, update, state)  # CUB loads what it takes
    call = TableCall(device, update, state)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call.run(stream=torch.cuda.current_stream().cuda_stream)
    for _ in range(REPLAYS):
        graph.replay()
        torch.cuda.synchronize()
        after = call.state()
        assert_tables_accurate(update, state, after)
        state = after


def assert_same(received: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    for name, value in expected.items():
        np.testing.assert_array_equal(received[name], value, name)
