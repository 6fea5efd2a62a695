"""Workers of a dask cluster that joined, asked all at the same time whether they can do the work."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from flowkit import atomic
from flowkit._version import __version__
from flowkit.workers import remote
from flowkit.workers.cluster import Client

ANSWER_S = 20
"""Seconds for a worker to answer."""
CHECK_S = 180
"""Seconds for its check, in which a GPU may be made ready."""
GPU = "GPU"
"""The resource of dask's workers that have one."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """Of a worker: its address, its cores, and why it cannot do the work; "" if it can."""

    address: str
    threads: int
    why_not: str


class Candidates:
    """The workers that have not answered yet.

    Parameters
    ----------
    client : Client
    folder : Path
        A folder that this process can write to and every worker must see.
    inputs : sequence of str
        Files and folders that every worker must see.
    gpus : bool
        Workers need dask's resource GPU.
    check : callable, optional
        Called as `check()` in each worker: returns why it cannot do the work, "" if it can.
    """

    def __init__(
        self,
        client: Client,
        *,
        folder: Path,
        inputs: Sequence[str],
        gpus: bool,
        check: Callable[[], str] | None,
    ) -> None:
        self._client, self._inputs, self._gpus, self._check = client, inputs, gpus, check
        self._token = folder.absolute() / f".flowkit-{uuid.uuid4().hex}"
        self._asked: set[str] = set()
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()

    def __len__(self) -> int:
        return len(self._asked)

    def __contains__(self, address: object) -> bool:
        return address in self._asked

    def ask(self, address: str, worker: dict[str, Any]) -> None:
        """Begin to ask a worker; `worker` is what the scheduler says of it."""
        if not self._asked:
            self._token.parent.mkdir(parents=True, exist_ok=True)
            self._token.touch()
        self._asked.add(address)
        # A daemon: a worker that never answers must not hold up this process's end.
        threading.Thread(target=self._take_answer, args=(address, worker), daemon=True).start()

    def answers(self, *, timeout: float = 0.0) -> Iterator[Answer]:
        """Yield the answers that have come, and wait for the first at most `timeout` seconds."""
        with contextlib.suppress(queue.Empty):
            while self._asked:
                answer = self._answers.get(timeout=timeout) if timeout else self._answers.get_nowait()
                timeout = 0.0
                self._asked.discard(answer.address)
                if not self._asked:
                    atomic.discard(self._token)
                yield answer

    def close(self) -> None:
        """Wait for no further answer."""
        self._asked.clear()
        atomic.discard(self._token)

    def _take_answer(self, address: str, worker: dict[str, Any]) -> None:
        threads = 0
        try:
            threads = int(worker["nthreads"])
            why = self._why_not(address, worker)
        except Exception as error:  # of a worker's own packages, too: it says why there is no answer
            why = _refusal(error)
        self._answers.put(Answer(address, threads, why))

    def _why_not(self, address: str, worker: dict[str, Any]) -> str:
        if self._gpus and worker.get("resources", {}).get(GPU, 0) < 1:
            return f"it has no resource {GPU}: start those with one by `dask worker --resources {GPU}=1`"
        # Not as a task: of one that it cannot import a worker says nothing.
        version = self._client.run(remote.version, workers=[address], callback_timeout=ANSWER_S)[address]
        if version != __version__:
            return f"it has flowkit {version}, expected {__version__}: install the same version there"
        # As tasks: a file system that does not answer then holds a thread, and not the worker.
        missing = self._result_of(address, ANSWER_S, remote.missing, [str(self._token), *self._inputs])
        if missing:
            return f"it does not see {missing[0]}: mount the same file system there, at the same path"
        return self._checked(address, self._check) if self._check else ""

    def _checked(self, address: str, check: Callable[[], str]) -> str:
        try:
            return str(self._result_of(address, CHECK_S, check))
        except TimeoutError:
            raise
        except Exception as error:  # the check's own: flowkit is there and the worker answers
            return f"the check of it failed: {error!r}"

    def _result_of(self, address: str, timeout: float, function: Callable[..., Any], *values: object) -> Any:
        """Return the result of a function in a worker, run as a task."""
        key = f"flowkit-{uuid.uuid4().hex}"
        future = self._client.submit(function, *values, key=key, workers=[address], pure=False)
        return future.result(timeout=timeout)


def _refusal(error: Exception) -> str:
    # The worker may hand its ImportError on as text, or as the cause of its own error.
    causes = (error, getattr(error, "__cause__", None))
    if any(isinstance(one, ImportError) or "ModuleNotFoundError" in str(one) for one in causes):
        return f"it cannot import flowkit {__version__} ({error}): install it there"
    return f"it does not answer: {error!r}"
