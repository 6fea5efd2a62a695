"""The choice of the engine that computes TV-L1, and the reason for it.

An engine is a module with a function ``load(params) -> Solver`` that raises
BackendUnavailableError where the engine cannot run here, and BackendError where it cannot
honour the parameters. Nothing of an engine is imported before it is asked for.
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import Literal, TypeAlias, get_args

from flowkit.errors import BackendError, BackendUnavailableError
from flowkit.tvl1.engine import Solver
from flowkit.tvl1.params import DEFAULT_PRESET, TVL1Params, resolve_params
from flowkit.validate import check_choice

BackendName: TypeAlias = Literal["auto", "cuda", "cpu", "opencv", "reference"]
"""The name of an engine, or "auto": the first of `AUTO_ORDER` that runs here."""

ENGINES: dict[str, str] = {
    "cuda": "flowkit.tvl1.cuda.solver",
    "cpu": "flowkit.tvl1.cpu",
    "opencv": "flowkit.tvl1.opencv",
    "reference": "flowkit.tvl1.reference.solver",
}
"""The module of each engine, by the backend's name."""

AUTO_ORDER: tuple[BackendName, ...] = ("cuda", "cpu", "opencv")
"""The engines that "auto" tries, the fastest first; the reference twin is never a fallback."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BackendChoice:
    """The engine taken, and the reason in one sentence."""

    name: BackendName
    solver: Solver
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BackendStatus:
    """State of one engine on this machine; `reason` is its version and device, or what is missing."""

    name: BackendName
    available: bool
    reason: str


def load_backend(name: str, params: TVL1Params) -> Solver:
    """Load one engine by its name.

    Raises
    ------
    BackendUnavailableError
        It is not installed or cannot start here.
    BackendError
        It cannot honour `params`.
    """
    module_name = ENGINES[name]
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        cause = "not built" if error.name == module_name else f"module {error.name!r} is not installed"
        raise BackendUnavailableError(f"backend {name!r} is unavailable: {cause}") from error
    except ImportError as error:
        raise BackendUnavailableError(f"backend {name!r} is unavailable: {error}") from error
    solver: Solver = module.load(params)
    return solver


def load_shared(
    name: str, params: TVL1Params, *, callers: int, gpu: int | None = None, memory_bytes: int = 0
) -> Solver:
    """Load an engine for several calls at once, which divide a GPU's memory among them; a GPU is warmed up.

    Parameters
    ----------
    name : str
    params : TVL1Params
    callers : int
        Calls at once, >= 1.
    gpu : int, optional
        Index among the GPUs that CUDA shows to this process; default: the first that can be used.
    memory_bytes : int
        Most device memory that all take together; 0 is most of what is free.

    Raises
    ------
    BackendError
        As those of `load_backend`.
    """
    if name != "cuda":
        return load_backend(name, params)
    cuda = importlib.import_module(ENGINES["cuda"])
    each = -(-memory_bytes // callers) or None
    solver = cuda.load(params, gpu=gpu, memory_bytes=each, callers=callers)
    # What a driver takes for its first call belongs to the start, not to the first video.
    solver.warm_up()
    ready: Solver = solver
    return ready


def choose_backend(name: BackendName = "auto", params: TVL1Params | str = DEFAULT_PRESET) -> BackendChoice:
    """Return the engine to use, and why.

    Parameters
    ----------
    name : {"auto", "cuda", "cpu", "opencv", "reference"}
        "auto" takes the first of cuda, cpu and opencv that runs here and honours `params`;
        any other name is that engine or an error, never a fallback.
    params : TVL1Params or the name of a preset

    Returns
    -------
    BackendChoice

    Raises
    ------
    InvalidParameterError
        No backend or no preset has this name.
    BackendUnavailableError
        The named engine, or every one that "auto" tries, cannot run here.
    BackendError
        The named engine runs here but cannot honour `params`.
    """
    check_choice("backend", name, get_args(BackendName))
    resolved = resolve_params(params)
    if name == "auto":
        return _choose_automatically(resolved)
    solver = load_backend(name, resolved)
    return BackendChoice(name=name, solver=solver, reason=f"{name}: asked for by name")


def _choose_automatically(params: TVL1Params) -> BackendChoice:
    skipped: list[str] = []
    for name in AUTO_ORDER:
        try:
            solver = load_backend(name, params)
        except BackendError as error:
            skipped.append(str(error))
            continue
        why = "; ".join(skipped) if skipped else "the first of " + ", ".join(AUTO_ORDER)
        return BackendChoice(name=name, solver=solver, reason=f"{name}: {why}")
    raise BackendUnavailableError(
        f"no TV-L1 backend can be used: {'; '.join(skipped)}; run `flowkit doctor` to see what is missing, "
        "or name backend 'reference', which is slow and always runs"
    )


def available_backends(params: TVL1Params | str = DEFAULT_PRESET) -> tuple[BackendStatus, ...]:
    """Return the state of every engine, those that "auto" tries first and in its order.

    Parameters
    ----------
    params : TVL1Params or the name of a preset
        The parameters that they would have to honour.

    Raises
    ------
    InvalidParameterError
        No preset has this name.
    """
    resolved = resolve_params(params)
    return tuple(_status(name, resolved) for name in get_args(BackendName) if name in ENGINES)


def _status(name: BackendName, params: TVL1Params) -> BackendStatus:
    try:
        solver = load_backend(name, params)
    except BackendError as error:
        return BackendStatus(name=name, available=False, reason=str(error))
    return BackendStatus(name=name, available=True, reason=f"{solver.version} on {solver.device}")
