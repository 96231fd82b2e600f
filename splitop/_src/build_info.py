"""What is installed, what the machine has, and which path trains."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform

from splitop._src import backend, library
from splitop._src.version import __version__


@dataclasses.dataclass(frozen=True)
class BuildInfo:
    """Versions, CPU features and the state of the compiled libraries; `str` makes a table.

    Attributes:
        splitop: Version of splitop.
        commit: Git commit that the libraries were built from, if known.
        python: Version of Python.
        numpy: Version of NumPy.
        tensorflow: Version of the TensorFlow that runs, if there is one.
        keras: Version of Keras, if there is one.
        built_against: Version of TensorFlow that the op library was built against, if known.
        compiler: Compiler and CMake build type, if known.
        machine: Architecture and operating system.
        cpu_isas: Instruction sets that this build and this machine have kernels for; empty
            if the kernels are missing.
        cpu_isa_in_use: The one the kernels use; None if they are missing.
        cuda: What the CUDA kernels were compiled with and for, or why there are none.
        cuda_problem: Why they can't run here, and what helps; None if they can.
        gpus: The GPUs that they can run on, by name; empty if there is a problem.
        xla_problem: Why the ops can't be used inside jit_compile=True, and what helps; None if they
            can.
        library: Path of the compiled op library.
        library_problem: Why it can't be used, and what helps; None if it is loaded.
        backend: The backend that was asked for: "auto", "fused" or "reference".
        path: The path that trains: "fused" (where possible) or "reference".
    """

    splitop: str
    commit: str | None
    python: str
    numpy: str
    tensorflow: str | None
    keras: str | None
    built_against: str | None
    compiler: str | None
    machine: str
    cpu_isas: tuple[str, ...]
    cpu_isa_in_use: str | None
    cuda: str
    cuda_problem: str | None
    gpus: tuple[str, ...]
    xla_problem: str | None
    library: str
    library_problem: str | None
    backend: str
    path: str

    def __str__(self) -> str:
        """One line a fact."""
        rows = {
            "splitop": f"{self.splitop} (commit {self.commit})" if self.commit else self.splitop,
            "python": self.python,
            "numpy": self.numpy,
            "tensorflow": self.tensorflow or "missing",
            "keras": self.keras or "missing",
            "built against": f"tensorflow {self.built_against or 'unknown'}",
            "compiler": self.compiler or "unknown",
            "machine": self.machine,
            "cpu kernels": ", ".join(self.cpu_isas) or "missing",
            "cpu in use": self.cpu_isa_in_use or "none",
            "cuda": self.cuda,
            "gpus": f"none in use. {self.cuda_problem}"
            if self.cuda_problem
            else ", ".join(self.gpus),
            "jit_compile": self.xla_problem or "fused on CPUs",
            "library": self.library,
            "state": self.library_problem or "loaded",
            "backend": f"{self.backend} (trains on the {self.path} path)",
        }
        return "\n".join(f"{name + ':':<15}{value}" for name, value in rows.items())


def build_info() -> BuildInfo:
    """Collects versions, CPU features, CUDA and the state of the compiled libraries.

    Works without TensorFlow and without the libraries, and says what is missing.

    Raises:
        SplitError: SPLITOP_BACKEND has an unknown value.
    """
    config = library.build_config()
    problem = library.reason()
    asked = backend.resolve(None)
    isas, in_use = _cpu()
    cuda_problem = library.cuda_reason()
    return BuildInfo(
        splitop=__version__,
        commit=config.commit if config else None,
        python=platform.python_version(),
        numpy=importlib.metadata.version("numpy"),
        tensorflow=_tensorflow_version(),
        keras=_installed("keras"),
        built_against=config.tensorflow if config else None,
        compiler=f"{config.compiler}, {config.build_type}" if config else None,
        machine=f"{platform.machine()}, {platform.system()}",
        cpu_isas=isas,
        cpu_isa_in_use=in_use,
        cuda=_cuda(config),
        cuda_problem=cuda_problem,
        gpus=() if cuda_problem else _gpus(),
        xla_problem=library.xla_reason(),
        library=str(library.directory() / library.OPS_LIBRARY),
        library_problem=problem,
        backend=asked,
        path="reference" if problem or asked == backend.REFERENCE else "fused",
    )


def _cpu() -> tuple[tuple[str, ...], str | None]:
    """Instruction sets of the kernels, and the one in use."""
    try:
        kernels = library.kernels()
    except ImportError:
        return (), None
    return tuple(kernels.available_isas()), kernels.isa_in_use()


def _cuda(config: library.BuildConfig | None) -> str:
    """What the CUDA kernels were compiled with and for."""
    if config is None:
        return "unknown"
    if config.cuda is None:
        return f"not built ({library.cuda_not_built()})"
    targets = [
        f"{name} (PTX)" if name.startswith("compute_") else name
        for name in config.cuda_architectures
    ]
    return " for ".join(filter(None, [config.cuda, ", ".join(targets)]))


def _gpus() -> tuple[str, ...]:
    """Names of the GPUs; the CUDA kernels are known to work."""
    return tuple(map(library.gpu_name, library.kernels().cuda_devices()))


def _tensorflow_version() -> str | None:
    # Several distributions hold the module, so only the module itself knows.
    try:
        import tensorflow as tf
    except Exception:  # a broken installation fails in many ways
        return None
    return str(tf.__version__)


def _installed(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
