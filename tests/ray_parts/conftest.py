from __future__ import annotations

import contextlib
import gc
import os
import pathlib
import tempfile
import warnings
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="package")
def cluster() -> Iterator[None]:
    """A Ray cluster of this process; the parts import the tests' modules."""
    ray = pytest.importorskip("ray")
    paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    variables = {
        "PYTHONPATH": os.pathsep.join(paths),
        "RAY_AUTH_TOKEN": "of-these-tests",  # Or Ray writes one into the home directory.
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # Or whatever else runs here keeps parts from starting.
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Else a warning about GPUs that are not used.
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory("ray") as folder:
        for name, value in variables.items():
            patch.setenv(name, value)
        patch.delenv("RAY_ADDRESS", raising=False)
        try:
            with _what_ray_leaves():
                ray.init(
                    address="local",
                    num_cpus=2,
                    include_dashboard=False,
                    object_store_memory=2**27,
                    _temp_dir=folder,  # Short: it holds sockets.
                    log_to_driver=False,
                    logging_level="error",
                )
            yield
        finally:
            with _what_ray_leaves():
                ray.shutdown()


@contextlib.contextmanager
def _what_ray_leaves() -> Iterator[None]:
    """Some of its versions leave files and processes for the garbage collector to close."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()
