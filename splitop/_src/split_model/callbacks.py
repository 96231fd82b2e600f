"""Keras' callbacks, for the second part's optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from splitop._src.errors import SplitError
from splitop._src.names import describe


class ForSecondPart(keras.callbacks.Callback):
    """Has a callback that acts on `model.optimizer` act on the second part's optimizer.

    The optimizer of a SplitModel that Keras' callbacks know is the first part's. This makes a
    schedule for the second one:

        model.fit(..., callbacks=[
            keras.callbacks.LearningRateScheduler(schedule),                  # first part
            splitop.keras.ForSecondPart(keras.callbacks.ReduceLROnPlateau()),  # second part
        ])

    What the callback adds to the logs gets the prefix "second_": "second_learning_rate".

    Args:
        callback: Any keras.callbacks.Callback. It sees the model, with the second part's optimizer
            and trainable variables as the model's.

    Raises:
        SplitError: No callback; or, in `fit`, a model that has no second optimizer.
    """

    def __init__(self, callback: Any) -> None:
        super().__init__()
        if not isinstance(callback, keras.callbacks.Callback):
            raise SplitError(
                f"ForSecondPart takes a keras.callbacks.Callback. Received: {describe(callback)}."
            )
        self.callback = callback

    def set_params(self, params: Any) -> None:
        """Passes the parameters of `fit` on."""
        super().set_params(params)
        self.callback.set_params(params)

    def set_model(self, model: Any) -> None:
        """Gives the callback its view of the model."""
        super().set_model(model)
        if getattr(model, "second_optimizer", None) is None:
            raise SplitError(
                "ForSecondPart works on a SplitModel that is compiled with a second_optimizer. "
                f"Received: {type(model).__name__}."
            )
        self.callback.set_model(_SecondPartView(model))


class _SecondPartView:
    """The model, but for the optimizer and what it trains."""

    def __init__(self, model: Any) -> None:
        object.__setattr__(self, "_model", model)

    @property
    def optimizer(self) -> Any:
        return self._model.second_optimizer

    @property
    def trainable_variables(self) -> Any:
        return self._model.second_part.trainable_variables

    @property
    def trainable_weights(self) -> Any:
        return self._model.second_part.trainable_weights

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._model, name, value)


def _forwarded(hook: str) -> Callable[..., None]:
    """A method that calls the inner callback's, and moves what that adds to the logs."""

    def forward(self: ForSecondPart, *args: Any, **kwargs: Any) -> None:
        logs = args[-1] if args and isinstance(args[-1], dict) else kwargs.get("logs")
        call = getattr(self.callback, hook)
        if not isinstance(logs, dict):
            call(*args, **kwargs)
            return
        own = dict(logs)
        if "logs" in kwargs:
            call(*args, **{**kwargs, "logs": own})
        else:
            call(*args[:-1], own, **kwargs)
        for name, value in own.items():
            if name not in logs or value is not logs[name]:
                logs[f"second_{name}"] = value

    forward.__name__ = hook
    forward.__doc__ = f"Calls the callback's {hook}."
    return forward


for _hook in dir(keras.callbacks.Callback):
    if _hook.startswith("on_"):
        setattr(ForSecondPart, _hook, _forwarded(_hook))
