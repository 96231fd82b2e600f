from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

# NumPy's for the CPU; for CUDA anything with DLPack or __cuda_array_interface__.
_Array = Any
_Pair = tuple[int, int]  # of rows and of columns

CUDA_EMULATED: bool

class Layer:
    def __init__(
        self,
        x: _Array,
        kernel: _Array,
        kernel_slots: Sequence[_Array] = ...,
        *,
        bias: _Array | None = ...,
        bias_slots: Sequence[_Array] = ...,
        activation: str = ...,
        alpha: float = ...,
        reference: _Array | None = ...,
        kernel_decayed: bool = ...,
        bias_decayed: bool = ...,
        kernel_copy: _Array | None = ...,
        kernel_gradient: _Array | None = ...,
    ) -> None: ...

def dense_chain(
    seed: npt.NDArray[Any],
    layers: Sequence[Layer],
    *,
    rule: str,
    hyper: npt.NDArray[Any],
    input_gradient: bool = ...,
    clips: npt.NDArray[Any] | None = ...,
    forward: bool = ...,
    num_threads: int = ...,
) -> npt.NDArray[np.floating[Any]] | None: ...
def dense_sweep(
    seed: npt.NDArray[Any],
    layers: Sequence[Layer],
    *,
    norms: str = ...,
    input_gradient: bool = ...,
    kernel_gradients: Sequence[npt.NDArray[Any] | None] | None = ...,
    num_threads: int = ...,
) -> tuple[list[npt.NDArray[Any]], npt.NDArray[Any] | None, npt.NDArray[np.float64]]: ...
def keeps_kernel_gradient(dtype: str, batch: int, inputs: int, outputs: int) -> bool: ...
def squared_norms(
    tensors: Sequence[npt.NDArray[Any]], *, num_threads: int = ...
) -> npt.NDArray[np.float64]: ...
def batched_product(
    a: npt.NDArray[np.floating[Any]],
    b: npt.NDArray[np.floating[Any]],
    *,
    bias: npt.NDArray[np.floating[Any]] | None = ...,
    relu: bool = ...,
    num_threads: int = ...,
) -> npt.NDArray[np.floating[Any]]: ...
def multi_tensor_update(
    gradients: Sequence[npt.NDArray[Any]],
    variables: Sequence[npt.NDArray[Any]],
    slots: Sequence[Sequence[npt.NDArray[Any]]],
    *,
    rule: str,
    hyper: npt.NDArray[Any],
    decayed: Sequence[bool],
    clips: npt.NDArray[Any] | None = ...,
    num_threads: int = ...,
) -> None: ...

class Table:
    def __init__(
        self,
        value: _Array,
        slots: Sequence[_Array],
        ids: _Array,
        gradient: _Array,
        *,
        gradient_row: _Array | None = ...,
        combiner: str = ...,
        id_weights: _Array | None = ...,
        all_rows: bool = ...,
        sums_squares: bool = ...,
        decayed: bool = ...,
    ) -> None: ...

def table_update(
    tables: Sequence[Table],
    *,
    rule: str,
    hyper: npt.NDArray[Any],
    num_threads: int = ...,
) -> None: ...
def table_lookup(
    table: npt.NDArray[Any], ids: npt.NDArray[Any], *, num_threads: int = ...
) -> npt.NDArray[Any]: ...
def convolution(
    x: npt.NDArray[Any],
    filter: npt.NDArray[Any],
    bias: npt.NDArray[Any] | None = ...,
    *,
    activation: str = ...,
    alpha: float = ...,
    strides: _Pair = ...,
    dilations: _Pair = ...,
    padding: tuple[_Pair, _Pair] = ...,
    num_threads: int = ...,
) -> npt.NDArray[Any]: ...
def filter_gradient(
    x: npt.NDArray[Any],
    dz: npt.NDArray[Any],
    size: _Pair,
    *,
    strides: _Pair = ...,
    dilations: _Pair = ...,
    padding: tuple[_Pair, _Pair] = ...,
    num_threads: int = ...,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]: ...
def image_gradient(
    dz: npt.NDArray[Any],
    filter: npt.NDArray[Any],
    size: _Pair,
    *,
    strides: _Pair = ...,
    dilations: _Pair = ...,
    padding: tuple[_Pair, _Pair] = ...,
    num_threads: int = ...,
) -> npt.NDArray[Any]: ...
def max_pool_gradient(
    x: npt.NDArray[Any],
    dy: npt.NDArray[Any],
    size: _Pair,
    *,
    activation: str = ...,
    strides: _Pair = ...,
    padding: tuple[_Pair, _Pair] = ...,
    num_threads: int = ...,
) -> npt.NDArray[Any]: ...
def available_isas() -> list[str]: ...
def isa_in_use() -> str: ...
def select_isa(name: str) -> None: ...
def cache_ways() -> int: ...
def set_cache_ways(ways: int) -> None: ...
def cuda_state() -> Literal[
    "ready", "not_built", "no_driver", "old_driver", "no_device", "old_device", "broken"
]: ...
def cuda_state_message() -> str: ...
def cuda_versions() -> tuple[int, int]: ...
def cuda_devices() -> list[dict[str, Any]]: ...
def has_cublas() -> bool: ...
def cuda_warm_up() -> None: ...
def cuda_plan(
    device: dict[str, Any],
    batch: int,
    inputs: int,
    outputs: int,
    *,
    dtype: str = ...,
    variable_dtype: str = ...,
    rule: str,
    allow_tf32: bool = ...,
    use_cublas: bool = ...,
    strategy: str = ...,
) -> dict[str, Any]: ...
def cuda_dense_chain(
    seed: _Array,
    layers: Sequence[Layer],
    *,
    rule: str,
    hyper: _Array,
    input_gradient: _Array | None = ...,
    scratch: _Array | None = ...,
    stream: int = ...,
    allow_tf32: bool = ...,
    use_cublas: bool = ...,
    strategy: str = ...,
) -> None: ...
def cuda_dense_chain_scratch_bytes(
    seed: _Array,
    layers: Sequence[Layer],
    *,
    rule: str,
    hyper: _Array,
    input_gradient: _Array | None = ...,
    stream: int = ...,
    allow_tf32: bool = ...,
    use_cublas: bool = ...,
    strategy: str = ...,
) -> int: ...
def cuda_multi_tensor_update(
    gradients: Sequence[_Array],
    variables: Sequence[_Array],
    slots: Sequence[Sequence[_Array]],
    *,
    rule: str,
    hyper: _Array,
    decayed: Sequence[bool],
    clips: _Array | None = ...,
    stream: int = ...,
) -> None: ...
def cuda_table_update(
    tables: Sequence[Table],
    *,
    rule: str,
    hyper: _Array,
    scratch: _Array | None = ...,
    stream: int = ...,
) -> None: ...
def cuda_table_update_scratch_bytes(
    tables: Sequence[Table], *, rule: str, hyper: _Array, stream: int = ...
) -> int: ...
