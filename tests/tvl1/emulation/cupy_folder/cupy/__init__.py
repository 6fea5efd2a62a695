"""Importing this makes the stand-in the module cupy: for the processes that a test starts."""

from tests.tvl1.emulation.fake_cupy import install_by_environment

install_by_environment()
