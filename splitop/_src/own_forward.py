"""Whether the fused op runs the forward pass of a chain itself, in the place of TensorFlow's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from splitop._src.graph import reach
from splitop._src.graph.devices import may_be_on_gpu
from splitop._src.graph.forward import match_forward
from splitop._src.graph.gradient_graph import GradientGraph
from splitop._src.graph.layers import DenseLayer
from splitop._src.validate import Call

Chain = Sequence[DenseLayer]


def own_forward(
    chain: Chain,
    call: Call,
    gradients: GradientGraph,
    running: frozenset[Any],
    alone: bool | None,
) -> bool:
    """Whether the op runs the forward pass of a chain, as nothing needs TensorFlow's then.

    Args:
        chain: What the op trains.
        call: The step.
        gradients: The plain gradients.
        running: The operations that have to run: of the plain gradients, and before the fused ops.
        alone: Whether the forward pass is run for this step only; False: what it has computed is
            there; None: see `_may_be_alone`.
    """
    if alone is False or (alone is None and not _may_be_alone(call)):
        return False
    if not all(_fits(layer, call) for layer in chain):
        return False
    forward = match_forward(chain, lambda index: reach.handle(call.graph, _variable(call, index)))
    if forward is None or not forward.ops or may_be_stale(forward.reads, chain, call):
        return False
    return is_idle(forward.ops, call, gradients, running, alone)


def _may_be_alone(call: Call) -> bool:
    """Whether the graph tells who else reads the activations.

    That of a tf.function does, but for readers that are added later and what the function returns:
    for these TensorFlow runs the forward pass, too. Without a seed IV is a loss, which is mostly
    returned. In a TF1 graph any tensor may be fetched or fed.
    """
    return call.graph.building_function and all(seed is not None for seed in call.seeds)


def is_idle(
    ops: Iterable[Any],
    call: Call,
    gradients: GradientGraph,
    running: frozenset[Any],
    alone: bool | None,
) -> bool:
    """Whether nothing that is computed from operations of the forward pass has to run.

    Args:
        ops: The operations.
        call: The step.
        gradients: The plain gradients.
        running: The operations that have to run: of the plain gradients, and before the fused ops.
        alone: Whether the forward pass is run for this step only; None: the graph tells.
    """
    running |= gradients.kept
    # What else may be computed from them at the end of all, besides names of tensors.
    ends = {iv.op for iv in call.ivs}
    seen: set[Any] = set()
    # An Identity computes nothing: what is below the chain may have another name, too.
    stack = [op for op in ops if op.type not in ("Identity", "IdentityN")]
    while stack:
        op = stack.pop()
        if op in running:
            return False
        if op in seen or op in gradients:
            continue
        if op.op_def.is_stateful and call.graph.building_function:
            return False  # An assertion, say, which a tf.function runs in any case.
        seen.add(op)
        users = _users(op)
        if not users and not alone and op not in ends and op.type != "Identity":
            return False
        stack += users
    return True


def _fits(layer: DenseLayer, call: Call) -> bool:
    kernel = _variable(call, layer.kernel)
    return kernel.shape.rank == 2 and kernel.dtype == layer.x.dtype and not may_be_on_gpu(kernel)


def _variable(call: Call, index: int) -> Any:
    return call.variables[index].variable


def may_be_stale(reads: Iterable[Any], chain: Chain, call: Call) -> bool:
    """Whether a variable may be written between the forward pass's reads and the op.

    In a run that starts from a seed that is fed, the forward pass up to IV has been run before.
    """
    given = (*chain[0].tops, chain[-1].x, *call.ivs)
    return any(reach.may_be_stale(read, tensor) for read in reads for tensor in given)


def _users(op: Any) -> list[Any]:
    """The operations that use an operation's outputs, or wait for it."""
    return [*(user for tensor in op.outputs for user in tensor.consumers()), *op._control_outputs]
