"""Compile the sources of the native engine on all cores: the `build_ext` that pyproject.toml names."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from setuptools import Extension
from setuptools.command.build_ext import build_ext


class CompileOnAllCores(build_ext):  # type: ignore[misc]  # setuptools has no types
    """Compile the files of an extension beside each other, which setuptools does one after another.

    Its own `parallel` builds several extensions at once, and here is one.
    """

    def build_extension(self, ext: Extension) -> None:
        """Build one extension.

        Raises
        ------
        setuptools.errors.CompileError
            A file does not compile; those that no core has begun are left out.
        """
        compile_in_turn = self.compiler.compile

        def compile_files(sources: Sequence[str], **options: object) -> list[str]:
            with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
                compiled = [pool.submit(compile_in_turn, [source], **options) for source in sources]
                try:
                    return list(itertools.chain.from_iterable(job.result() for job in compiled))
                finally:
                    pool.shutdown(cancel_futures=True)

        self.compiler.compile = compile_files
        try:
            super().build_extension(ext)
        finally:
            self.compiler.compile = compile_in_turn
