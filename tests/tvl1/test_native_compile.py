"""The engine's build: its files beside each other, complete source archives, no engine without a compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import threading
import tomllib
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("setuptools")

from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

from flowkit.tvl1.native.compile import CompileOnAllCores

ROOT = Path(__file__).resolve().parents[2]
NATIVE = "flowkit/tvl1/native"
CORES = 3
SOURCES = ["a.cpp", "b.cpp", "c.cpp"]


class Compiler:
    """A compiler whose files end only when as many are in work as there are cores."""

    def __init__(self, bad: str = "") -> None:
        self.bad = bad
        self.together = threading.Barrier(CORES, timeout=30)

    def compile(self, sources: Sequence[str], **options: object) -> list[str]:
        self.together.wait()
        assert options == {"debug": False}
        if self.bad in sources:
            raise CompileError(f"{self.bad} does not compile")
        return [source.replace(".cpp", ".o") for source in sources]


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The objects that setuptools is given for an extension of `SOURCES`, once it is built."""
    found: list[str] = []

    def build_extension(self: build_ext, ext: Extension) -> None:
        found.extend(self.compiler.compile(ext.sources, debug=False))

    monkeypatch.setattr(build_ext, "build_extension", build_extension)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(CORES)))
    return found


def command(compiler: Compiler) -> CompileOnAllCores:
    built = CompileOnAllCores(Distribution())
    built.compiler = compiler
    return built


def test_as_many_files_as_cores_compile_at_once_and_objects_keep_their_order(objects: list[str]) -> None:
    command(Compiler()).build_extension(Extension("engine", SOURCES))
    assert objects == ["a.o", "b.o", "c.o"]


def test_a_file_that_does_not_compile_fails_the_extension_and_frees_the_compiler(objects: list[str]) -> None:
    compiler = Compiler(bad="b.cpp")
    with pytest.raises(CompileError, match=r"b\.cpp does not compile"):
        command(compiler).build_extension(Extension("engine", SOURCES))
    assert objects == []
    assert compiler.compile.__func__ is Compiler.compile  # type: ignore[attr-defined]  # mypy: no method


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a build reads, without results of earlier ones."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in ("flowkit", "cli", "gating"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return tree


def build(tree: Path, hook: str, **environment: str) -> tuple[Path, str]:
    """Call a hook of the build backend as pip does; return the archive and what was printed."""
    program = f"from setuptools import build_meta; print(build_meta.{hook}('dist'))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tree,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return tree / "dist" / done.stdout.splitlines()[-1], done.stdout + done.stderr


@pytest.mark.slow
def test_a_source_archive_has_all_that_the_engine_is_built_from(tree: Path) -> None:
    archive, _ = build(tree, "build_sdist")
    with tarfile.open(archive) as tar:
        packed = {name.partition("/")[2] for name in tar.getnames()}
    assert {f"{NATIVE}/{path.name}" for path in (tree / NATIVE).iterdir() if path.is_file()} <= packed


@pytest.mark.slow
def test_without_a_compiler_the_wheel_has_all_but_the_engine_and_the_build_warns(tree: Path) -> None:
    archive, printed = build(tree, "build_wheel", CC="/bin/false", CXX="/bin/false")
    assert 'building extension "flowkit.tvl1._native" failed' in printed
    names = zipfile.ZipFile(archive).namelist()
    assert "flowkit/tvl1/cpu.py" in names
    assert [name for name in names if name.endswith(".so") or name.startswith(NATIVE)] == []


def test_every_source_is_built_and_every_other_file_is_a_dependency() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    (engine,) = settings["ext-modules"]
    files = {f"{NATIVE}/{path.name}" for path in (ROOT / NATIVE).iterdir() if path.is_file()}
    assert set(engine["sources"]) == {name for name in files if name.endswith(".cpp")}
    assert set(engine["depends"]) == files - set(engine["sources"])
