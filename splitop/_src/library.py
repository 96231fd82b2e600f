"""Finds the compiled op library, checks that it fits TensorFlow, and loads it.

Nothing happens when this module is imported: without a usable library splitop still works,
on the reference path.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

import splitop.lib
from splitop._src import shared_object, user_code
from splitop._src.errors import LibraryError

OPS_LIBRARY = "libsplitop_ops.so"
KERNELS_LIBRARY = "libsplitop_kernels.so"  # which all others are linked with
XLA_LIBRARY = "libsplitop_xla.so"
BUILD_CONFIG = "build_config.json"

_INSTALL_TENSORFLOW = (
    "Install it: pip install 'tensorflow-cpu==2.21.*', or 'tensorflow[and-cuda]==2.21.*' for GPUs."
)
_BUILD = (
    "Build splitop in this environment: "
    "pip install --no-build-isolation --force-reinstall --no-deps <splitop's sources>."
)
_BUILD_CUDA = (
    "Install the CUDA toolkit, 12.1 or newer, with nvcc on the PATH, and build splitop again: "
    "pip install --no-build-isolation --force-reinstall --no-deps <splitop's sources>."
)
_BUILD_XLA = (
    "Build splitop again with -DSPLITOP_XLA=ON, which says what is missing: "
    "SPLITOP_CMAKE_ARGS=-DSPLITOP_XLA=ON "
    "pip install --no-build-isolation --force-reinstall --no-deps <splitop's sources>."
)
# By the state that the kernels library reports.
_CUDA_PROBLEMS = {
    "no_driver": "There is no NVIDIA driver: install one for CUDA {built} or newer.",
    "old_driver": (
        "The NVIDIA driver is too old: update it to one for CUDA {built} or newer, or build "
        "splitop with a CUDA toolkit of {driver} or older."
    ),
    "no_device": (
        "There is no GPU that this process can see: CUDA_VISIBLE_DEVICES may hide it, or the "
        "container was started without it."
    ),
    "old_device": "No GPU has compute capability 8.0 (sm_80, Ampere) or newer.",
    "broken": "The NVIDIA driver reports an error: see what nvidia-smi says.",
}


@dataclasses.dataclass(frozen=True)
class BuildConfig:
    """What the compiled libraries were built from and for.

    Attributes:
        splitop: Version of the sources.
        tensorflow: Version that the ops were compiled against; None: built without them.
        compiler: Name and version.
        build_type: CMake's build type.
        commit: Git commit of the sources, if they were in a repository.
        isas: Instruction sets that have their own inner loops.
        sanitize: Sanitizers, separated by commas; mostly none.
        cuda: Version of the CUDA toolkit; "emulated": CUDA kernels that run on the CPU, for
            tests; None: built without CUDA kernels.
        cuda_architectures: What the CUDA kernels were compiled for: `sm_80`, or `compute_90`
            for PTX, which the driver compiles for newer GPUs.
        cuda_not_built: Why there are no CUDA kernels.
        xla_not_built: Why there are no XLA kernels, for the inside of jit_compile=True.
        ops: A hash of the sources that register the ops; None: not known.
    """

    splitop: str
    tensorflow: str | None
    compiler: str
    build_type: str
    commit: str | None
    isas: tuple[str, ...]
    sanitize: str
    cuda: str | None = None
    cuda_architectures: tuple[str, ...] = ()
    cuda_not_built: str | None = None
    xla_not_built: str | None = None
    ops: str | None = None


def directory() -> pathlib.Path:
    """Where the compiled libraries are: `splitop/lib`, or `SPLITOP_LIBRARY_DIR`."""
    return pathlib.Path(splitop.lib.__path__[0])


def build_config() -> BuildConfig | None:
    """What the libraries were built for; None if that is missing or unreadable."""
    return _read_config(directory())


def load() -> Any:
    """Loads the op library, once a process.

    Returns:
        The module of generated op wrappers that `tf.load_op_library` returns.

    Raises:
        LibraryError: The library is missing, does not fit the running TensorFlow, or can't
            be loaded; the message has the cause and the cure.
    """
    module, cause = _load_from(directory())
    if cause is not None:
        raise LibraryError(cause)
    return module


def reason() -> str | None:
    """Why the op library can't be used, and what helps; None if it can."""
    return _load_from(directory())[1]


def load_xla() -> Any:
    """Loads the ops' XLA kernels, once a process, and the op library with them.

    Returns:
        The module of the wrappers of the ops that are for XLA only.

    Raises:
        LibraryError: They can't be used; the message has the cause and the cure.
    """
    module, cause = _load_xla_from(directory())
    if cause is not None:
        raise LibraryError(cause)
    return module


def xla_reason() -> str | None:
    """Why the ops can't be used inside jit_compile=True, and what helps; None if they can."""
    return _load_xla_from(directory())[1]


def kernels() -> Any:
    """The module `splitop.lib._kernels`.

    Raises:
        ImportError: It is missing or can't be loaded.
    """
    where = directory()
    cut_short = shared_object.cut_short([where / KERNELS_LIBRARY, *where.glob("_kernels.*.so")])
    if cut_short is not None:
        raise ImportError(f"{cut_short} is cut short")
    from splitop.lib import _kernels

    return _kernels


def cuda_reason() -> str | None:
    """Why the CUDA kernels can't run here, and what helps; None if they can."""
    try:
        module = kernels()
        state = module.cuda_state()
    except (ImportError, AttributeError) as error:  # missing, or of an older version
        return f"The compiled kernels can't be used: {error}. {_BUILD} {_received(directory())}"
    if state == "ready":
        return None
    if state == "not_built":
        return f"splitop was built without CUDA. {_BUILD_CUDA} Received: {cuda_not_built()}."
    built, driver = map(_cuda_version, module.cuda_versions())
    received = [
        f"a build with CUDA {built}",
        f"a driver for CUDA {driver}" if driver else "no driver",
        *(map(gpu_name, module.cuda_devices())),
    ]
    problem = _CUDA_PROBLEMS[state].format(built=built, driver=driver)
    return f"{problem} Received: {', '.join(received)}."


def cuda_not_built() -> str:
    """Why the build has no CUDA kernels."""
    config = build_config()
    return config.cuda_not_built if config and config.cuda_not_built else "no known reason"


def hash_of_ops() -> str | None:
    """`BuildConfig.ops` of the sources beside this package; None: there are none to be read.

    cmake/install_build_config.cmake.in works it out likewise.
    """
    root = pathlib.Path(splitop.__file__).parents[1]
    sources = sorted(root.glob("csrc/*/[!.]*_op.cpp"))
    try:
        hashes = "".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in sources)
    except OSError:
        return None
    return hashlib.sha256(hashes.encode()).hexdigest() if sources else None


def gpu_name(device: Mapping[str, Any]) -> str:
    """Name and compute capability of one of `_kernels.cuda_devices()`."""
    return f"{device['name']} (sm_{device['compute_capability']})"


def warn_once() -> None:
    """Warns, the first time only, if the op library can't be used."""
    cause = reason()
    if cause is not None:
        _warn(cause)


@functools.cache
def _warn(cause: str) -> None:
    warnings.warn(
        f"splitop trains on TensorFlow's own ops (the reference path). {cause}",
        RuntimeWarning,
        stacklevel=user_code.stack_level(),
    )


@functools.cache
def _load_from(where: pathlib.Path) -> tuple[Any, str | None]:
    """The loaded library and None, or None and the reason why there is none."""
    cause = _misfit(where)
    if cause is not None:
        return None, cause
    import tensorflow as tf

    library = where / OPS_LIBRARY
    try:
        return tf.load_op_library(str(library)), None
    except (tf.errors.OpError, OSError, RuntimeError) as error:
        return None, f"The compiled library can't be loaded: {error}. {_BUILD} {_received(library)}"


@functools.cache
def _load_xla_from(where: pathlib.Path) -> tuple[Any, str | None]:
    """As `_load_from`."""
    _, cause = _load_from(where)
    if cause is not None:
        return None, cause
    import tensorflow as tf

    library = where / XLA_LIBRARY
    config = _read_config(where)
    if config is not None and config.xla_not_built is not None:
        cause = f"splitop was built without XLA kernels. {_BUILD_XLA}"
        return None, f"{cause} Received: {config.xla_not_built}."
    if not library.is_file():
        return None, f"The compiled XLA kernels are missing. {_BUILD} {_received(library)}"
    if shared_object.cut_short([library]):
        return None, _cut_short(library)
    try:
        return tf.load_op_library(str(library)), None
    except (tf.errors.OpError, OSError, RuntimeError) as error:
        cause = f"The compiled XLA kernels can't be loaded: {error}. {_BUILD}"
        return None, f"{cause} {_received(library)}"


def _misfit(where: pathlib.Path) -> str | None:
    """What can be known to be wrong before the library is loaded."""
    try:
        import tensorflow as tf
    except Exception as error:  # a broken installation fails in many ways
        return f"TensorFlow can't be imported. {_INSTALL_TENSORFLOW} Received: {error!r}."

    library = where / OPS_LIBRARY
    config = _read_config(where)
    if config is not None and config.tensorflow is None:
        return f"The compiled libraries were built without TensorFlow. {_BUILD} {_received(where)}"
    if not library.is_file():
        return f"The compiled library is missing. {_BUILD} {_received(library)}"
    cut_short = shared_object.cut_short([library, where / KERNELS_LIBRARY])
    if cut_short is not None:
        return _cut_short(cut_short)
    if config is None:
        return (
            f"It is not known which TensorFlow the compiled library was built for. {_BUILD} "
            f"{_received(where / BUILD_CONFIG)}"
        )
    # TensorFlow keeps the interface for compiled ops stable within a minor version only.
    if _minor(config.tensorflow) != _minor(tf.__version__):
        return (
            f"The compiled library was built for TensorFlow {config.tensorflow}. {_BUILD} "
            f"{_received(f'TensorFlow {tf.__version__}', library)}"
        )
    if hash_of_ops() not in (None, config.ops):
        return (
            "The compiled library was built from other sources than those that are here: its ops "
            f"may take other arguments. {_BUILD} In a checkout: make build. "
            f"{_received(library)}"
        )
    return None


def _cut_short(library: pathlib.Path) -> str:
    return (
        "A compiled library is cut short: the disk may be full, or have been when it was written. "
        f"{_BUILD} {_received(library)}"
    )


def _received(*what: Any) -> str:
    """The end of a reason; the last one is a path, which the environment may have named."""
    by_whom = f" ({splitop.lib.DIRECTORY})" if splitop.lib.is_named else ""
    return f"Received: {', '.join(map(str, what))}{by_whom}."


def _read_config(where: pathlib.Path) -> BuildConfig | None:
    try:
        fields = json.loads((where / BUILD_CONFIG).read_text())
        lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return BuildConfig(**{**fields, **lists})
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def _cuda_version(number: int) -> str | None:
    """CUDA's 12080 as "12.8"; None for no version."""
    return f"{number // 1000}.{number % 1000 // 10}" if number else None


def _minor(version: str | None) -> list[str]:
    return str(version).split(".")[:2]
