"""The engines of a video's flow fields in a worker, and what the store keeps of them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence

from flowkit.errors import BackendError, InvalidParameterError
from flowkit.executor import Executor
from flowkit.extraction.config import ExtractConfig, MethodFields
from flowkit.extraction.pipeline import FieldSolver
from flowkit.methods.method import FlowMethod
from flowkit.methods.tvl1 import TVL1Method
from flowkit.store.record import SolverRecord
from flowkit.tvl1.backend import ENGINES, BackendName, choose_backend, load_backend, load_shared
from flowkit.tvl1.engine import EngineInfo, Solver
from flowkit.tvl1.params import TVL1Params
from flowkit.tvl1.server.client import RemoteSolver


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TVL1Engine:
    """The engine of a worker's TV-L1 fields.

    `servers` are the sockets of the processes that compute, the first to ask first; without any, the worker
    does, by `backend`, in so many `callers` at once, with a GPU in `gpu_memory_bytes` of it (0: most of what
    is free). When no server is left and `takeover` is true, the CPU engine computes in the worker.
    """

    backend: BackendName
    callers: int = 1
    gpu_memory_bytes: int = 0
    servers: tuple[str, ...] = ()
    takeover: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EngineChoice:
    """The engine of all TV-L1 fields of an extraction, and the reason for it.

    Attributes
    ----------
    name : str
        Of the engine, as `BackendName` has it.
    reason : str
        Why it is this one, in one sentence.
    deviations : tuple of str
        Departures from the parameters, one phrase each; none are known of an engine elsewhere.
    elsewhere : bool
        It computes in the workers of a cluster, and was not looked for on this machine.
    """

    name: BackendName
    reason: str
    deviations: tuple[str, ...] = ()
    elsewhere: bool = False


def why_not_here(backend: BackendName, params: Sequence[TVL1Params]) -> str:
    """Return why an engine cannot compute with some parameters on this machine, "" if it can.

    A cluster's workers are asked this before they get work.
    """
    try:
        for one in params:
            load_backend(backend, one)
    except BackendError as error:
        return str(error)
    return ""


def field_solver(each: MethodFields, tvl1: TVL1Engine) -> FieldSolver:
    """Return a method's engine and its fields; engines are loaded once a process.

    Raises
    ------
    BackendError
        It cannot run here.
    """
    if not isinstance(each.method, TVL1Method):
        return FieldSolver(solver=_loaded(each.method), fields=each.fields, images=each.method.images)
    if not tvl1.servers:
        solver = _solver(tvl1.backend, each.method.params, tvl1.callers, tvl1.gpu_memory_bytes)
        return FieldSolver(solver=solver, fields=each.fields)
    remote = _remote_solver(tvl1.servers, tvl1.takeover, each.method.params)
    return FieldSolver(solver=remote, fields=each.fields, elsewhere=remote.computes_elsewhere)


@functools.lru_cache(maxsize=8)
def _loaded(method: FlowMethod) -> Solver:
    return method.load()


@functools.lru_cache(maxsize=8)
def _solver(backend: BackendName, params: TVL1Params, callers: int, gpu_memory_bytes: int) -> Solver:
    if backend == "cuda":
        return load_shared(backend, params, callers=callers, memory_bytes=gpu_memory_bytes)
    return choose_backend(backend, params).solver


@functools.lru_cache(maxsize=2)
def _remote_solver(servers: tuple[str, ...], takeover: bool, params: TVL1Params) -> RemoteSolver:
    # Not OpenCV's, whose flow a store does not mix with that of flowkit's engines.
    cpu = functools.partial(load_backend, "cpu", params)
    return RemoteSolver(servers, last_resort=cpu if takeover else None)


def solver_record(engines: Sequence[EngineInfo]) -> SolverRecord:
    """Return what a store keeps of the engines that computed a video's fields."""
    return SolverRecord(
        backend=_joined(engine.name for engine in engines),
        device=_joined(engine.device for engine in engines if engine.device),
        opencv_version=_joined(each.version for each in engines if each.version.startswith("OpenCV ")),
        deviations="; ".join(dict.fromkeys(text for engine in engines for text in engine.deviations)),
    )


def _joined(words: Iterable[str]) -> str:
    """Return different words in their order: those of a video that several engines computed."""
    return ", ".join(dict.fromkeys(words))


def takeovers(
    chosen: BackendName, engines: Sequence[EngineInfo], solvers: Sequence[FieldSolver]
) -> tuple[str, ...]:
    """Return a warning if a video lost a server, or another TV-L1 engine than the chosen one computed."""
    for solver in (one.solver for one in solvers):
        if not isinstance(solver, RemoteSolver):
            continue
        lost, of_tvl1 = solver.unreported(), [engine for engine in engines if engine.name in ENGINES]
        if lost or any(engine.name != chosen for engine in of_tvl1):
            computed = " and ".join(f"{engine.name} on {engine.device}" for engine in of_tvl1)
            return (f"computed by {computed}, since {'; '.join(lost or solver.failures)}",)
    return ()


def check_elsewhere(choice: EngineChoice | None, executor: Executor) -> None:
    """Raise InvalidParameterError unless an executor's workers have the GPUs that an engine needs."""
    if choice is None or choice.name != "cuda" or (choice.elsewhere and executor.gpus):
        return
    if choice.elsewhere:
        raise InvalidParameterError(
            "the engine is cuda in the workers of a cluster, got an executor whose workers need no GPU; "
            + (
                "make it with gpus=True"
                if executor.elsewhere
                else "take a DaskExecutor with gpus=True, or "
                "prepare the plan with elsewhere=False for a GPU of this machine"
            )
        )
    if executor.elsewhere:
        raise InvalidParameterError(
            "the plan is for a GPU of this machine, got an executor whose workers are elsewhere; prepare it "
            "with elsewhere=True"
        )


def tvl1_params(methods: Sequence[MethodFields]) -> tuple[TVL1Params, ...]:
    """Return the sets of TV-L1 parameters of methods, each once."""
    return tuple(each.method.params for each in methods if isinstance(each.method, TVL1Method))


def tvl1_backend(
    config: ExtractConfig, params: Sequence[TVL1Params], *, elsewhere: bool = False
) -> EngineChoice | None:
    """Choose the one engine of all TV-L1 fields; None where there is none.

    With `elsewhere` the workers of a cluster compute: "auto" is the CPU's, which every machine has, and
    "cuda" is not looked for here.
    """
    choice = _engine(config, params[0], elsewhere=elsewhere) if params else None
    name = "" if choice is None else choice.name
    if config.gpus and elsewhere:
        raise InvalidParameterError(
            f"gpus {list(config.gpus)} are those of this machine, and a cluster's workers compute; leave it "
            "out: a worker uses the first GPU that it sees (CUDA_VISIBLE_DEVICES)"
        )
    if config.gpus and name != "cuda":
        why = choice.reason if choice is not None else "none, since no field is TV-L1"
        raise InvalidParameterError(f"gpus {list(config.gpus)} were asked for, but the backend is {why}")
    if name == "cuda" and len(params) > 1:
        raise InvalidParameterError(
            f"backend 'cuda' computes one set of TV-L1 parameters a store, got {len(params)}; "
            "take backend 'cpu', or one preset for all TV-L1 fields"
        )
    for other in params[1:]:
        load_backend(name, other)
    return choice


def _engine(config: ExtractConfig, params: TVL1Params, *, elsewhere: bool) -> EngineChoice:
    if elsewhere and config.backend == "cuda":
        return EngineChoice(name="cuda", reason="cuda: on the cluster's workers with a GPU", elsewhere=True)
    by_default = elsewhere and config.backend == "auto"
    made = choose_backend("cpu" if by_default else config.backend, params)
    reason = "cpu: that of every worker of a cluster" if by_default else made.reason
    return EngineChoice(name=made.name, reason=reason, deviations=made.solver.deviations)
