"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real videos and ground truth; a test that needs it skips where it is absent."""
    folder = Path(os.environ.get("FLOWKIT_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data here: set FLOWKIT_TEST_DATA to a folder that has it")
    return folder
