from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from flowkit.errors import BackendUnavailableError
from flowkit.tvl1.cuda import modules as cuda_kernels
from flowkit.tvl1.cuda.modules import cache_folder, cubin, sources, target_architecture
from flowkit.tvl1.cuda.nvrtc import Compiled


class FakeNvrtc:
    """Compiles in no time, and counts."""

    version = "13.9"

    def __init__(self) -> None:
        self.compiled: list[tuple[str, dict[str, float], int]] = []

    def architectures(self) -> tuple[int, ...]:
        return (75, 80, 86, 90, 100, 103)

    def compile(
        self, name: str, texts: Mapping[str, str], defines: Mapping[str, int], architecture: int
    ) -> Compiled:
        assert name in texts
        self.compiled.append((name, dict(defines), architecture))
        return Compiled(cubin=repr(self.compiled[-1]).encode(), log="")


@pytest.fixture
def nvrtc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeNvrtc:
    compiler = FakeNvrtc()
    monkeypatch.setattr(cuda_kernels, "load_nvrtc", lambda major: compiler)
    monkeypatch.setenv("FLOWKIT_CACHE_DIR", str(tmp_path / "cache"))
    return compiler


def test_the_second_start_compiles_nothing(nvrtc: FakeNvrtc) -> None:
    first = cubin("tile.cu", {"A": 1}, 90)
    assert cubin("tile.cu", {"A": 1}, 90) == first
    assert nvrtc.compiled == [("tile.cu", {"A": 1}, 90)]


def test_other_macros_architectures_compilers_and_sources_are_compiled_anew(
    nvrtc: FakeNvrtc, monkeypatch: pytest.MonkeyPatch
) -> None:
    cubin("tile.cu", {"A": 1}, 90)
    cubin("tile.cu", {"A": 2}, 90)
    cubin("tile.cu", {"A": 1}, 86)
    monkeypatch.setattr(nvrtc, "version", "13.10")
    cubin("tile.cu", {"A": 1}, 90)
    monkeypatch.setattr(cuda_kernels, "sources", lambda: {**sources(), "core.cuh": "// changed"})
    cubin("tile.cu", {"A": 1}, 90)
    assert len(nvrtc.compiled) == 5


def test_a_damaged_file_is_compiled_again(nvrtc: FakeNvrtc) -> None:
    code = cubin("tile.cu", {}, 90)
    (file,) = cache_folder().iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    assert cubin("tile.cu", {}, 90) == code
    assert cubin("tile.cu", {}, 90) == code
    assert len(nvrtc.compiled) == 2
    assert len(list(cache_folder().iterdir())) == 1


def test_a_folder_that_cannot_be_written_costs_a_warning(
    nvrtc: FakeNvrtc, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FLOWKIT_CACHE_DIR", str(tmp_path / "file"))
    with pytest.warns(RuntimeWarning, match="cannot be kept.*FLOWKIT_CACHE_DIR"):
        assert cubin("tile.cu", {}, 90)


def test_the_cache_lies_where_the_user_keeps_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FLOWKIT_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "flowkit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "flowkit"


@pytest.mark.parametrize(("capability", "expected"), [(75, 75), (87, 86), (89, 86), (90, 90), (103, 103)])
def test_code_is_for_the_gpu_or_the_nearest_older_of_its_family(capability: int, expected: int) -> None:
    assert target_architecture(capability, FakeNvrtc()) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("capability", "words"),
    [(70, r"too old: compute capability 7\.0"), (120, r"13\.9 does not know .* 12\.0")],
)
def test_a_gpu_without_code_is_refused(capability: int, words: str) -> None:
    with pytest.raises(BackendUnavailableError, match=words):
        target_architecture(capability, FakeNvrtc())  # type: ignore[arg-type]


def test_every_kernel_file_is_shipped() -> None:
    assert {"core.cuh", "level.cu", "pyramid.cu", "tile.cu"} <= set(sources())
