"""A function of one's own as a method: found by its name, called in batches, its output checked.

The function takes uint8 RGB pairs (n, 2, H, W, 3) and returns float32 flow (n, 2, H, W), px per frame step.
Its attributes, all optional, say the rest: `batch_size` (pairs a call, 8 without it), `one_process` (True:
one process calls it for the whole run, since it has a GPU to itself), `params` (what a store shall keep of
its settings) and `version`.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import importlib.metadata
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowkit.errors import BackendError, BackendUnavailableError, InvalidParameterError
from flowkit.methods.method import Images, method_json
from flowkit.typing import Flow, UInt8
from flowkit.validate import check_array, check_integer, check_that

PairsFunction: TypeAlias = Callable[[UInt8], Flow]
"""Takes uint8 RGB (n, 2, H, W, 3): first and second frame of n pairs; returns float32 (n, 2, H, W), px."""

DEFAULT_BATCH_SIZE = 8
"""Pairs of one call, where neither the function nor an option says another number."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FunctionMethod:
    """A function of one's own, and what a store keeps of it.

    Parameters
    ----------
    name : str
        `package.module:function`, by which it is imported.
    qualified_name : str
        The name under which it was defined.
    package, version : str
        The distribution it belongs to, or its module, and that one's version.
    params : str
        Its settings, JSON text.
    batch_size : int
        Pairs of one call; the last call of a video, or of a stage, has fewer.
    one_process : bool
        One process calls it for the whole run.
    """

    preset: ClassVar[str] = ""
    images: ClassVar[Images] = "rgb"

    name: str
    qualified_name: str
    package: str
    version: str
    params: str = "{}"
    batch_size: int = DEFAULT_BATCH_SIZE
    one_process: bool = False

    def to_json(self) -> str:
        """Return name, settings and version; the size of a batch is not kept, as it is to change nothing."""
        return method_json(
            self.name,
            params=json.loads(self.params),
            versions={self.package: self.version},
            function=self.qualified_name,
        )

    def load(self) -> FunctionSolver:
        """Import the function, and return what calls it.

        Raises
        ------
        BackendUnavailableError
            It cannot be imported here.
        """
        return FunctionSolver(self, import_function(self.name))


class FunctionSolver:
    """Calls a function behind the engines' interface, one call at a time.

    Parameters
    ----------
    method : FunctionMethod
    function : callable
    """

    device = ""
    deviations: tuple[str, ...] = ()

    def __init__(self, method: FunctionMethod, function: PairsFunction) -> None:
        self.name = method.name
        self.version = f"{method.package} {method.version}"
        self.pairs_per_call = method.batch_size
        self._function = function
        # Models keep state, and need not bear two threads.
        self._lock = threading.Lock()

    def flow_batch(self, frames: ArrayLike, pairs: ArrayLike, *, threads: int = 1) -> NDArray[np.float32]:
        """Compute the flow of each pair by calls of at most `pairs_per_call` pairs.

        Parameters
        ----------
        frames : array, (n, H, W, 3), uint8
            RGB.
        pairs : int array, (m, 2)
            Rows (k, l): the flow from frame k to frame l.
        threads : int
            Without effect.

        Returns
        -------
        float32 array, (m, 2, H, W)
            u to the right, then v downwards; px.

        Raises
        ------
        BackendError
            The function raised, or returned what is no flow of these pairs.
        """
        rgb, rows = np.asarray(frames), np.asarray(pairs)
        check_array("frames", rgb, ("n", "H", "W", 3), dtype=np.uint8, allow_empty=False)
        check_array("pairs", rows, ("m", 2), dtype=np.integer)
        is_in_range = not rows.size or bool(rows.min() >= 0 and rows.max() < len(rgb))
        check_that("pairs", rows.tolist(), is_in_range, f"rows of the {len(rgb)} frames, from 0 on")
        out = np.empty((len(rows), 2, *rgb.shape[1:3]), np.float32)
        for first in range(0, len(rows), self.pairs_per_call):
            chosen = rows[first : first + self.pairs_per_call]
            out[first : first + len(chosen)] = self._call(rgb[chosen])
        return out

    def _call(self, pairs: UInt8) -> Flow:
        n, _, height, width, _ = pairs.shape
        try:
            with self._lock:
                flow = self._function(pairs)
        except MemoryError:
            raise
        except Exception as error:  # another's code may raise anything
            where = traceback.extract_tb(error.__traceback__)[-1]
            raise BackendError(
                f"method {self.name!r} raised {type(error).__name__}: {error} "
                f"({Path(where.filename).name}, line {where.lineno}, in {where.name})"
            ) from error
        self._check(flow, (n, 2, height, width))
        return flow

    def _check(self, flow: object, shape: tuple[int, ...]) -> None:
        expected = f"float32 {shape} of finite px, as a NumPy array"
        if not isinstance(flow, np.ndarray):
            raise BackendError(f"method {self.name!r} returned {type(flow).__name__}, expected {expected}")
        if flow.shape != shape or flow.dtype != np.float32:
            raise BackendError(
                f"method {self.name!r} returned {flow.dtype} {flow.shape}, expected {expected}"
            )
        wrong = int(flow.size - np.count_nonzero(np.isfinite(flow)))
        if wrong:
            raise BackendError(
                f"method {self.name!r} returned {wrong} of {flow.size} values that are not finite, "
                f"expected {expected}"
            )


@functools.cache
def import_function(name: str) -> PairsFunction:
    """Import `package.module:function` from the installed packages, or else from the working folder.

    Raises
    ------
    BackendUnavailableError
        The import fails.
    InvalidParameterError
        The module has no such function.
    """
    module_name, _, path = name.partition(":")
    if os.getcwd() not in sys.path:
        # Last, so that no file there hides a package.
        sys.path.append(os.getcwd())
    try:
        found: object = importlib.import_module(module_name)
    except Exception as error:  # another's module may raise anything
        raise BackendUnavailableError(
            f"method {name!r} cannot be imported: {type(error).__name__}: {error}; its module must be "
            "installed, on PYTHONPATH or in the working folder"
        ) from error
    for word in path.split("."):
        found = getattr(found, word, None)
    if not callable(found):
        raise InvalidParameterError(f"method {name!r}: module {module_name} has no function {path!r}")
    function: PairsFunction = found
    return function


@functools.cache
def read_function(name: str, *, batch_size: int | None = None) -> FunctionMethod:
    """Import a function, and read what its attributes say.

    Parameters
    ----------
    name : str
        `package.module:function`.
    batch_size : int, optional
        Instead of the function's own.

    Raises
    ------
    BackendUnavailableError
        It cannot be imported.
    InvalidParameterError
        There is no such function, or an attribute is of another type or outside its range.
    """
    function = import_function(name)
    chosen = getattr(function, "batch_size", DEFAULT_BATCH_SIZE) if batch_size is None else batch_size
    check_integer(f"batch_size of {name}", chosen, 1, unit="pairs")
    one_process = getattr(function, "one_process", False)
    check_that(f"one_process of {name}", one_process, isinstance(one_process, bool), "True or False")
    package, version = _version_of(function, name)
    return FunctionMethod(
        name=name,
        qualified_name=_qualified_name(function),
        package=package,
        version=version,
        params=_params_of(function, name),
        batch_size=chosen,
        one_process=one_process,
    )


def _qualified_name(function: PairsFunction) -> str:
    """Return the name under which a function, or the class of a callable object, was defined."""
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def _params_of(function: PairsFunction, name: str) -> str:
    params = getattr(function, "params", {})
    try:
        text = json.dumps(params, sort_keys=True, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        text = ""
    check_that(
        f"params of {name}", params, isinstance(params, dict) and bool(text), "a dict that JSON can hold"
    )
    return text


def _version_of(function: PairsFunction, name: str) -> tuple[str, str]:
    """Return the package of a function and its version.

    That is what the function states as `version`, or its distribution's, or its package's `__version__`, or
    else the digest of its file: a store is not continued by a script that has been edited since.
    """
    module = sys.modules[name.partition(":")[0]]
    package = module.__name__.partition(".")[0]
    version = getattr(function, "version", None)
    if version is not None:
        check_that(f"version of {name}", version, isinstance(version, str), "a text")
        return package, str(version)
    source = getattr(module, "__file__", None) or ""  # of a compiled module its library
    for name in importlib.metadata.packages_distributions().get(package, ()):
        distribution = importlib.metadata.distribution(name)
        # Of an editable installation the version stays while the source changes.
        if Path(source).is_relative_to(str(distribution.locate_file(""))):
            return name, distribution.version
    version = getattr(sys.modules[package], "__version__", None)
    if version is not None:
        return package, str(version)
    if not Path(source).is_file():
        raise InvalidParameterError(
            f"{module.__name__} of {function!r} has no file, so its version is unknown; give the function "
            "the attribute `version`, a text"
        )
    return module.__name__, f"sha256:{hashlib.sha256(Path(source).read_bytes()).hexdigest()[:16]}"
