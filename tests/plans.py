"""Comparing plans."""

from __future__ import annotations

from typing import Any

import splitop


def fusing(plan: splitop.Plan) -> tuple[Any, ...]:
    """What a plan fuses, and how. XLA runs the forward pass itself.

    Why a variable is only updated may differ: layer norms have an op for the gradient outside XLA.
    """
    chains = [(chain.layers, chain.input_gradient) for chain in plan.chains]
    return plan.fused, sorted(plan.updated), plan.declined, plan.tables, chains
