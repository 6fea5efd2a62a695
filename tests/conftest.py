"""Fixtures that several test files share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.make import clips

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure() -> None:
    """Let each worker have one core, Ctrl-C reach what tests start, and no test fail on a busy machine."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    hypothesis.settings.register_profile("flowkit", deadline=None)
    hypothesis.settings.load_profile("flowkit")
    # A job in a shell's background ignores SIGINT, and hands that on.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def emulation_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let all processes of a run find the emulated kernels that one of them compiled."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # each worker has a folder of its own below that of the run
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWKIT_EMULATION_DIR", str(folder / "emulation"))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real videos and ground truth; a test that needs it skips where it is absent."""
    folder = Path(os.environ.get("FLOWKIT_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data here: set FLOWKIT_TEST_DATA to a folder that has it")
    return folder


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """A folder of two tiny videos: `drift/one` (6 frames, lossless) and `two` (5 frames)."""
    folder = tmp_path / "videos"
    (folder / "drift").mkdir(parents=True)
    clips.lossless_mkv(folder / "drift" / "one.mkv", clips.moving_texture(6))
    clips.mjpeg_avi(folder / "two.avi", clips.moving_texture(5, seed=1))
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The path of a test's store."""
    return tmp_path / "out.h5"
