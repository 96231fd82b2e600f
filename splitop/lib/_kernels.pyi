from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

class Layer:
    def __init__(
        self,
        x: npt.NDArray[Any],
        kernel: npt.NDArray[Any],
        kernel_slots: Sequence[npt.NDArray[Any]] = ...,
        *,
        bias: npt.NDArray[Any] | None = ...,
        bias_slots: Sequence[npt.NDArray[Any]] = ...,
        activation: str = ...,
        alpha: float = ...,
        reference: npt.NDArray[Any] | None = ...,
        kernel_decayed: bool = ...,
        bias_decayed: bool = ...,
    ) -> None: ...

def dense_chain(
    seed: npt.NDArray[Any],
    layers: Sequence[Layer],
    *,
    rule: str,
    hyper: npt.NDArray[Any],
    input_gradient: bool = ...,
    num_threads: int = ...,
) -> npt.NDArray[np.floating[Any]] | None: ...
def available_isas() -> list[str]: ...
def isa_in_use() -> str: ...
def select_isa(name: str) -> None: ...
