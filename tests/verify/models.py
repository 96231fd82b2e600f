"""Models to verify: small, of odd sizes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

import splitop

BATCH, FEATURES, CLASSES = 11, 5, 3
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def batch() -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    x = random.normal(size=(BATCH, FEATURES)).astype(np.float32)
    return {"x": x, "y": random.integers(0, CLASSES, BATCH)}


def second_part(*more: Any, width: int = 4, **last: Any) -> Any:
    """x to iv; `more` layers come before the last one."""
    layers = [keras.layers.Dense(7, "relu", name="low"), *more]
    return chain(FEATURES, *layers, keras.layers.Dense(width, "tanh", name="top", **last))


def first_part(*more: Any, width: int = 4, **last: Any) -> Any:
    """iv to logits."""
    return chain(width, *more, keras.layers.Dense(CLASSES, name="logits", **last))


def chain(features: int, *layers: Any) -> Any:
    """A functional model: a sequential one would prefix the names of its variables."""
    x = keras.Input((features,))
    output = x
    for layer in layers:
        output = layer(output)
    return keras.Model(x, output)


def optimizers() -> dict[str, Any]:
    return {
        "first_optimizer": keras.optimizers.SGD(0.1, momentum=0.9, name="first_sgd"),
        "second_optimizer": keras.optimizers.Adam(0.01, name="second_adam"),
    }


def verify(**arguments: Any) -> splitop.VerifyReport:
    """Two small parts, where nothing else is said."""
    defaults: dict[str, Any] = {"loss": LOSS, "steps": 2, **batch(), **optimizers()}
    if not {"model", "second_part"} & arguments.keys():
        defaults |= {"second_part": second_part(), "first_part": first_part()}
    model = arguments.pop("model", None)
    return splitop.verify(model, **{**defaults, **arguments})


def findings(report: splitop.VerifyReport) -> set[tuple[str, str]]:
    """Severities and pitfalls."""
    return {(finding.severity, finding.pitfall) for finding in report.findings}


def finding(report: splitop.VerifyReport, severity: str, pitfall: str) -> Any:
    """The finding of a pitfall; there has to be one."""
    (found,) = (f for f in report.findings if (f.severity, f.pitfall) == (severity, pitfall))
    return found
