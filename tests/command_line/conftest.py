"""The fixtures of the sweeps: a command line given in a folder of its own."""

from tests.sweep.conftest import creditlab  # noqa: F401
