"""The version: read by setup.py, CMake and the package itself."""

__version__ = "0.1.0"
