"""`splitop.verify`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from splitop._src.errors import SplitError, VariableListError
from splitop._src.full_precision import full_precision
from splitop._src.names import describe
from splitop._src.optimizers import adapter_for
from splitop._src.verify.eager import EagerModel
from splitop._src.verify.examine import examine
from splitop._src.verify.graph import GraphModel
from splitop._src.verify.keras_parts import from_model, from_parts
from splitop._src.verify.report import VerifyReport
from splitop._src.whole import check_whole


def verify(
    model: Any = None,
    *,
    cut: Any = None,
    second_part: Any = None,
    first_part: Any = None,
    x: Any = None,
    y: Any = None,
    loss: Any = None,
    iv: Any = None,
    feed_dict: Mapping[Any, Any] | None = None,
    session: Any = None,
    first_vars: Sequence[Any] | None = None,
    second_vars: Sequence[Any] | None = None,
    first_optimizer: Any = None,
    second_optimizer: Any = None,
    second_penalties: bool | None = None,
    steps: int = 3,
) -> VerifyReport:
    """Checks on a batch that a model trains in two parts as it does in one.

    Four ways to say what the two parts are:

        verify(model, cut="layer", x=x, y=y, loss=loss, ...)         a Keras model
        verify(second_part=..., first_part=..., x=x, y=y, loss=loss, ...)   two of them
        verify(split_model, x=x, y=y, ...)    with second_part, first_part and its optimizers
        verify(loss=tensor, iv=tensor, first_vars=..., second_vars=..., feed_dict=..., ...)  TF1

    Compared over `steps` steps, which all start from the state that the model has:

    - split against joint: each variable's gradient by the seed with that of the loss of the whole
      model, and all variables and optimizer state after the updates. Both gradients are taken
      before either part moves. Each optimizer updates its own part in joint training, too.
    - fused against reference: all variables and optimizer state, with backend="auto" and with
      "reference".

    A step has one forward pass, in training mode, so that both see the same dropout masks.

    A difference fails if it is larger than rounding explains. That is measured: two more runs of
    the reference start from variables and slots that are off by r = √n u each, the rounding
    of a sum of n terms with the unit roundoff u (the largest r of the graph, at least an ulp). An
    element may be off by twice what moved most in them, plus 2 r times the longest way from the
    start, plus 4 ulp of the largest magnitude. Float32 products are not rounded to TF32 meanwhile.

    Nothing is left changed, also if it fails. Eager variables, seed generators and optimizers are
    put back bit by bit: nothing else may use them meanwhile, and memory holds a copy of them. A TF1
    graph is copied, and its session only read.

    Args:
        model: A functional or sequential Keras model for `cut`, or an object with the attributes
            `second_part` and `first_part`; of that, `first_optimizer`, `second_optimizer` and
            `loss` are taken where they are not given.
        cut: The layer whose output is the intermediate vector, or a list of several: names, as
            SplitModel.cut takes them, or layers.
        second_part: Gives iv, a float tensor or a nested structure of them, from x: a Keras
            model that is built, or another callable.
        first_part: Gives the output from iv.
        x: The batch: an array or tensor, or a nested structure of them.
        y: What the loss compares the output with; None if it needs nothing.
        loss: A function of (y, output) that gives a scalar, a keras.losses.Loss or its name. With
            `iv`: the loss itself, a tensor.
        iv: A tensor of a tf.Graph, or a nested structure of them.
        feed_dict: The batch of a tf.Graph: values for its placeholders, or for other tensors.
        session: The session that has the variables' values; None: their initializers give them.
        first_vars: The first part's variables; may be left out for Keras models.
        second_vars: The second part's.
        first_optimizer: keras.optimizers.Optimizer or tf.compat.v1.train.Optimizer.
        second_optimizer: The same for the second part.
        second_penalties: Whether the second part's step minimizes the penalties of its own layers
            (Keras regularizers, add_loss) besides following the seed. None: yes for an object with
            two parts, no for others.
        steps: How many steps are compared, at least 1.

    Returns:
        The report; print it. `report.ok` says whether all is well.

    Raises:
        SplitError: The arguments don't say what to verify. What is wrong with the model itself is a
            finding of the report.
        CutError: `cut` does not separate `model`; the message says what to name.
    """
    steps = check_whole("steps", steps)
    if tf.distribute.has_strategy():
        raise SplitError(
            "splitop.verify compares on one replica: call it outside of the scope of a "
            "tf.distribute strategy. Received: a strategy."
        )
    whole = model is not None and cut is None and _has_parts(model)
    if whole:
        second_part, first_part = model.second_part, model.first_part
        first_optimizer = first_optimizer or getattr(model, "first_optimizer", None)
        second_optimizer = second_optimizer or getattr(model, "second_optimizer", None)
        loss = getattr(model, "loss", None) if loss is None else loss
    optimizers = first_optimizer, second_optimizer
    for name, optimizer in zip(("first_optimizer", "second_optimizer"), optimizers, strict=True):
        if optimizer is None:
            raise SplitError(f"{name} must be given. Received: None.")
        adapter_for(optimizer)
    keeps = whole if second_penalties is None else second_penalties
    subject = _subject(
        model=None if whole else model,
        cut=cut,
        parts=(second_part, first_part),
        batch=(x, y),
        loss=loss,
        iv=iv,
        feed_dict=feed_dict,
        session=session,
        variables=(first_vars, second_vars),
        keeps_penalties=keeps,
    )
    with full_precision():
        return examine(subject, optimizers, steps)


def _subject(
    *,
    model: Any,
    cut: Any,
    parts: tuple[Any, Any],
    batch: tuple[Any, Any],
    loss: Any,
    iv: Any,
    feed_dict: Any,
    session: Any,
    variables: tuple[Any, Any],
    keeps_penalties: bool,
) -> EagerModel | GraphModel:
    """What the arguments say is to be verified."""
    given = {"iv": iv, "a model": model, "second_part": parts[0]}
    ways = [name for name, value in given.items() if value is not None]
    if len(ways) != 1 or (parts[0] is None) != (parts[1] is None):
        raise SplitError(
            "splitop.verify takes a model with its cut, or second_part and first_part, or the "
            f"tensors loss and iv of a tf.Graph. Received: {' and '.join(ways) or 'none of them'}."
        )
    if loss is None:
        raise SplitError("loss must be given. Received: None.")
    first_vars, second_vars = variables
    if iv is not None:
        if first_vars is None or second_vars is None:
            raise VariableListError(
                "first_vars and second_vars must list the variables of the parts of a tf.Graph. "
                "Received: None."
            )
        return GraphModel(loss, iv, first_vars, second_vars, feed_dict, session)
    if batch[0] is None:
        raise SplitError("x must be a batch. Received: None.")
    options = {
        "first_vars": first_vars,
        "second_vars": second_vars,
        "keeps_penalties": keeps_penalties,
    }
    if model is None:
        return from_parts(*parts, *batch, loss, **options)
    if cut is None:
        raise SplitError(
            "cut must name the layer of the model whose output is the intermediate vector. "
            f"Received: None for {describe(model)}."
        )
    return from_model(model, cut, *batch, loss, **options)


def _has_parts(model: Any) -> bool:
    return hasattr(model, "second_part") and hasattr(model, "first_part")
