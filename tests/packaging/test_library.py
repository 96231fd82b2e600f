"""splitop._src.library: every way the compiled library can be unusable."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable

import pytest
import tensorflow as tf

from splitop._src import library
from splitop._src.errors import LibraryError

REAL_DIRECTORY = library.directory()


def run_python(code: str, cwd: pathlib.Path, **environment: str) -> str:
    """Output of a fresh interpreter that runs `code`."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def unusable() -> str:
    """The reason why the library can't be used; load() has to agree."""
    reason = library.reason()
    assert reason is not None
    with pytest.raises(LibraryError) as error:
        library.load()
    assert str(error.value) == reason
    return reason


def test_the_library_loads_once() -> None:
    assert library.reason() is None
    assert library.load() is library.load()
    assert callable(library.load().splitop_dense_chain)


def test_the_config_names_the_running_tensorflow() -> None:
    config = library.build_config()
    assert config is not None
    assert config.tensorflow == tf.__version__
    assert "baseline" in config.isas


@pytest.mark.usefixtures("library_dir")
def test_missing() -> None:
    reason = unusable()
    assert "is missing" in reason
    assert "--no-build-isolation" in reason
    assert f"Received: {library.directory() / 'libsplitop_ops.so'}." in reason


@pytest.mark.usefixtures("garbage")
def test_built_for_another_tensorflow(write_config: Callable[..., None]) -> None:
    write_config(tensorflow="2.20.3")
    reason = unusable()
    assert "was built for TensorFlow 2.20.3" in reason
    path = library.directory() / "libsplitop_ops.so"
    assert reason.endswith(f"Received: TensorFlow {tf.__version__}, {path}.")


@pytest.mark.usefixtures("garbage")
def test_another_patch_release_is_tried(write_config: Callable[..., None]) -> None:
    major, minor = tf.__version__.split(".")[:2]
    write_config(tensorflow=f"{major}.{minor}.99")
    assert "can't be loaded" in unusable()


@pytest.mark.usefixtures("garbage")
@pytest.mark.parametrize("ops", [None, "0" * 64])
def test_built_from_other_sources(write_config: Callable[..., None], ops: str | None) -> None:
    write_config(tensorflow=tf.__version__, ops=ops)
    reason = unusable()
    assert "was built from other sources" in reason
    assert "make build" in reason


def test_the_config_knows_the_ops() -> None:
    real = json.loads((REAL_DIRECTORY / library.BUILD_CONFIG).read_text())
    assert real["ops"] == library.hash_of_ops()


def test_no_shared_object(write_config: Callable[..., None], garbage: pathlib.Path) -> None:
    write_config(tensorflow=tf.__version__)
    reason = unusable()
    assert "can't be loaded" in reason
    assert reason.endswith(f"Received: {garbage}.")


def test_built_without_tensorflow(write_config: Callable[..., None]) -> None:
    write_config(tensorflow=None)
    assert "built without TensorFlow" in unusable()


@pytest.mark.usefixtures("garbage")
@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"isas": []}', '{"isas": 1, "new": 2}'])
def test_no_readable_config(library_dir: pathlib.Path, text: str | None) -> None:
    if text is not None:
        (library_dir / library.BUILD_CONFIG).write_text(text)
    assert library.build_config() is None
    assert "not known which TensorFlow" in unusable()


@pytest.mark.usefixtures("library_dir")
def test_tensorflow_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    reason = unusable()
    assert reason.startswith("TensorFlow can't be imported.")
    assert "pip install 'tensorflow-cpu" in reason


@pytest.mark.usefixtures("library_dir")
def test_one_warning() -> None:
    with pytest.warns(RuntimeWarning, match=r"reference path.*is missing.*Build splitop") as caught:
        library.warn_once()
    assert [warning.filename for warning in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        library.warn_once()


def test_no_warning_when_all_is_well() -> None:
    library.warn_once()


def test_the_kernels_library_is_missing(tmp_path: pathlib.Path) -> None:
    # In a process of its own: here the kernels are loaded already.
    for name in (library.OPS_LIBRARY, library.BUILD_CONFIG):
        shutil.copy(REAL_DIRECTORY / name, tmp_path)
    reason = run_python(
        "from splitop._src import library; print(library.reason())",
        tmp_path,
        SPLITOP_LIBRARY_DIR=str(tmp_path),
    )
    assert "can't be loaded" in reason
    assert library.KERNELS_LIBRARY in reason


def with_one_cut_short(directory: pathlib.Path, name: str) -> list[str]:
    """What `library` says of the op, of XLA and of CUDA, and the path that is taken."""
    # In a process of its own, which loading the library would end.
    for path in (*REAL_DIRECTORY.glob("*.so"), REAL_DIRECTORY / library.BUILD_CONFIG):
        shutil.copy(path, directory)
    os.truncate(directory / name, (directory / name).stat().st_size // 2)
    return run_python(
        "import splitop; from splitop._src import library\n"
        "print(library.reason(), library.xla_reason(), library.cuda_reason(), "
        "splitop.build_info().path, sep='\\n')",
        directory,
        SPLITOP_LIBRARY_DIR=str(directory),
    ).splitlines()


@pytest.mark.parametrize("name", [library.OPS_LIBRARY, library.KERNELS_LIBRARY])
def test_a_library_that_is_cut_short(tmp_path: pathlib.Path, name: str) -> None:
    reason, xla_reason, problem, path = with_one_cut_short(tmp_path, name)
    assert reason.startswith("A compiled library is cut short")
    assert f"Received: {tmp_path / name} " in reason
    assert xla_reason == reason
    assert (f"{name} is cut short" in problem) == (name == library.KERNELS_LIBRARY)
    assert path == "reference"


def test_xla_kernels_that_are_cut_short(tmp_path: pathlib.Path) -> None:
    reason, xla_reason, problem, path = with_one_cut_short(tmp_path, library.XLA_LIBRARY)
    assert reason == "None"
    assert xla_reason.startswith("A compiled library is cut short")
    assert f"Received: {tmp_path / library.XLA_LIBRARY} " in xla_reason
    assert "cut short" not in problem
    assert path == "fused"


@pytest.mark.usefixtures("garbage")
def test_what_cannot_be_read(write_config: Callable[..., None], library_dir: pathlib.Path) -> None:
    write_config(tensorflow=tf.__version__)
    (library_dir / "a_directory.so").mkdir()
    (library_dir / library.KERNELS_LIBRARY).symlink_to(library_dir / "nowhere")
    assert "can't be loaded" in unusable()


def test_a_directory_that_the_environment_names(tmp_path: pathlib.Path) -> None:
    code = "from splitop._src import library; print(library.reason())"
    reason = run_python(code, tmp_path, SPLITOP_LIBRARY_DIR=str(tmp_path))
    received = f"{tmp_path / 'libsplitop_ops.so'} (SPLITOP_LIBRARY_DIR)"
    assert reason.endswith(f"Received: {received}.")


def test_importing_splitop_needs_no_library(tmp_path: pathlib.Path) -> None:
    output = run_python(
        "import splitop; print(splitop.build_info().path)",
        tmp_path,
        SPLITOP_LIBRARY_DIR=str(tmp_path),
    )
    assert output == "reference"


def test_importing_splitop_needs_no_tensorflow(tmp_path: pathlib.Path) -> None:
    output = run_python(
        "import sys; sys.modules['tensorflow'] = None\n"
        "import splitop; print(splitop.build_info().tensorflow)",
        tmp_path,
    )
    assert output == "None"


def test_found_from_any_working_directory(tmp_path: pathlib.Path) -> None:
    output = run_python(
        "from splitop._src import library; print(library.load() is not None)", tmp_path
    )
    assert output == "True"
