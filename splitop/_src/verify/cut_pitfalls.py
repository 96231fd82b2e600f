"""Who trains what: paths round the cut, shared variables, lost penalties."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

import tensorflow as tf

from splitop._src.cut import check_cut
from splitop._src.errors import SplitError
from splitop._src.graph import reach
from splitop._src.names import tensor_name, variable_name
from splitop._src.verify.report import ERROR, NOTE, WARNING, Finding
from splitop._src.verify.split import Split

PATH = "path round the cut"


def plain(item: Any) -> Any:
    """The tf.Variable of a variable; anything else as it is."""
    return item if isinstance(item, tf.Variable) else getattr(item, "value", item)


def shared_variables(first: Sequence[Any], shared: Container[int]) -> list[Finding]:
    """Variables of both parts; `shared` has the ids of their tf.Variables."""
    return [
        Finding(
            ERROR,
            "shared variable",
            variable_name(item),
            "Both parts have it, so that each part's step gives it a part of its gradient only, "
            "and two optimizers update it. Here it is trained with the second part.",
            "Give each part a variable of its own, or move the cut so that one part has all of "
            "its uses.",
        )
        for item in first
        if id(plain(item)) in shared
    ]


def paths_round(graph: Any, split: Split) -> list[Finding]:
    """Paths from a part's variables to the loss, or to iv, that the cut does not cut."""
    found = []
    for firsts, seconds, item in [
        *(((), (item,), item) for item in split.second),
        *(((item,), (), item) for item in split.first),
    ]:
        try:
            check_cut(graph, split.loss, split.ivs, firsts, seconds)
        except SplitError as error:
            advice = "Move the cut, or make what goes round it a part of iv."
            found.append(Finding(ERROR, PATH, item.name, str(error), advice))
    return found


def lost_penalties(graph: Any, split: Split) -> list[Finding]:
    """Penalties of the second part."""
    found = []
    for penalty in split.second_penalties:
        walk = reach.ancestors([penalty], crosses=reach.passes_gradient)
        names = [
            item.name
            for item in split.second
            if any(op in walk for op in reach.handle(graph, item.variable).consumers())
        ]
        if split.keeps_penalties:
            found.append(
                Finding(
                    NOTE,
                    "regularisation",
                    ", ".join(names),
                    f"The second part's step adds its own penalty {tensor_name(penalty)} to the "
                    "gradient by the seed.",
                    "Nothing: training does the same as long as it adds all penalties.",
                )
            )
            continue
        found.append(
            Finding(
                ERROR,
                "lost regularisation",
                ", ".join(names),
                f"The penalty {tensor_name(penalty)} of the second part is no part of the seed, so "
                "that a step by the seed alone loses it.",
                "Train the second part with splitop.minimize(optimizer, [iv, *second.losses], "
                "variables, [seed, *ones]), or with splitop.keras.SplitModel, and verify with "
                "second_penalties=True.",
            )
        )
    return found


def of_neither_part(graph: Any, split: Split, trainable: Sequence[Any]) -> list[Finding]:
    """Trainable variables with a gradient that no part trains."""
    of_parts = {id(item.variable) for item in split.variables}
    total = [split.joint_total()]
    walk = reach.ancestors(total, crosses=reach.passes_gradient)
    found = []
    for variable in trainable:
        if id(plain(variable)) in of_parts:
            continue
        if any(op in walk for op in reach.handle(graph, plain(variable)).consumers()):
            found.append(
                Finding(
                    WARNING,
                    "variable of neither part",
                    variable_name(variable),
                    "It is trainable and has a gradient, but no part trains it.",
                    "Add it to first_vars or second_vars, or set trainable=False if it is meant "
                    "to stay as it is.",
                )
            )
    return found
