from __future__ import annotations

import numpy as np
import pytest

from tests.planner.models import MODELS
from tests.planner.training import kernels_of, plain_names, train

CASES = [(name, mode) for name, model in MODELS.items() for mode in model.modes]


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_finds_the_chains_and_trains_as_the_reference(name: str, mode: str) -> None:
    model = MODELS[name]
    fused = train(model, mode, "auto")
    assert kernels_of(fused.plan) == set(model.chains)
    assert tuple(each.table.removesuffix(":0") for each in fused.plan.tables) == model.tables
    for given, expected in (
        (fused.plan.updated, model.updated),
        (fused.plan.declined, model.declined),
    ):
        reasons = plain_names(given)
        assert reasons.keys() == expected.keys()
        for variable, words in expected.items():
            assert words in reasons[variable]

    reference = train(model, mode, "reference")
    assert reference.plan.fused == ()
    assert fused.weights.keys() == reference.weights.keys()
    for variable, weights in reference.weights.items():
        np.testing.assert_allclose(
            fused.weights[variable], weights, rtol=1e-9, atol=1e-11, err_msg=variable
        )
