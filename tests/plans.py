"""Comparing plans."""

from __future__ import annotations

from typing import Any

import splitop


def fusing(plan: splitop.Plan) -> tuple[Any, ...]:
    """What a plan fuses, and how. XLA runs the forward pass itself."""
    chains = [(chain.layers, chain.input_gradient) for chain in plan.chains]
    return plan.fused, plan.updated, plan.declined, plan.tables, chains
