from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowkit._version import __version__
from flowkit.workers import remote
from flowkit.workers.candidates import ANSWER_S, CHECK_S, Answer, Candidates

PATIENCE_S = 20
WITH_GPU = {"nthreads": 3, "resources": {"GPU": 1}}
WITHOUT = {"nthreads": 3, "resources": {}}


class Future:
    """A call that is made when its result is asked for."""

    def __init__(self, call: Callable[[], Any], on_wait: Callable[[float], None]) -> None:
        self._call, self._on_wait = call, on_wait

    def result(self, timeout: float) -> Any:
        """Return the result."""
        self._on_wait(timeout)
        return self._call()


class FakeClient:
    """dask's client of workers of this process; `failing` raise, `silent` answer once they may."""

    def __init__(self) -> None:
        self.versions: dict[str, str] = {}
        self.failing: dict[str, Exception] = {}
        self.silent: dict[str, threading.Event] = {}
        self.waits: list[tuple[list[str], float]] = []

    def run(self, function: Callable[[], str], *, workers: list[str], callback_timeout: float) -> Any:
        """Return what a function returns in each worker."""
        (address,) = workers
        self.waits.append((workers, callback_timeout))
        if address in self.silent:
            assert self.silent[address].wait(PATIENCE_S)
        if address in self.failing:
            raise self.failing[address]
        return {address: self.versions.get(address, function())}

    def submit(
        self, function: Callable[..., Any], *values: object, key: str, workers: list[str], pure: bool
    ) -> Future:
        """Return the future of a task."""
        return Future(
            lambda: function(*values), on_wait=lambda timeout: self.waits.append((workers, timeout))
        )


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
def ask(client: FakeClient, tmp_path: Path) -> Iterator[Callable[..., Candidates]]:
    """Return a function that makes candidates and asks workers, each by its address and facts."""
    made: list[Candidates] = []

    def asked(*addresses: str, facts: dict[str, Any] = WITHOUT, **options: Any) -> Candidates:
        known = {"folder": tmp_path, "inputs": [], "gpus": False, "check": None, **options}
        made.append(Candidates(client, **known))
        for address in addresses:
            made[-1].ask(address, facts)
        return made[-1]

    yield asked
    for event in client.silent.values():
        event.set()
    for one in made:
        one.close()


def only_answer(asked: Candidates) -> Answer:
    (answer,) = asked.answers(timeout=PATIENCE_S)
    return answer


def test_a_worker_that_can_do_the_work_answers_with_its_cores(ask: Callable[..., Candidates]) -> None:
    assert only_answer(ask("tcp://a")) == Answer("tcp://a", 3, "")


def test_a_worker_that_is_silent_delays_no_other(
    ask: Callable[..., Candidates], client: FakeClient, tmp_path: Path
) -> None:
    client.silent["tcp://slow"] = threading.Event()
    asked = ask("tcp://slow", "tcp://quick")
    assert only_answer(asked).address == "tcp://quick"
    assert len(asked) == 1
    assert "tcp://slow" in asked
    assert "tcp://quick" not in asked
    assert list(asked.answers()) == []  # nothing has come, and nothing is waited for
    assert list(asked.answers(timeout=0.05)) == []
    assert len(list(tmp_path.iterdir())) == 1  # it may still look for the file
    client.silent["tcp://slow"].set()
    assert only_answer(asked).address == "tcp://slow"
    assert len(asked) == 0
    assert list(tmp_path.iterdir()) == []


def test_who_is_no_longer_waited_for_leaves_no_file(
    ask: Callable[..., Candidates], client: FakeClient, tmp_path: Path
) -> None:
    client.silent["tcp://slow"] = threading.Event()
    asked = ask("tcp://slow")
    asked.close()
    assert list(tmp_path.iterdir()) == []
    assert len(asked) == 0
    assert list(asked.answers(timeout=PATIENCE_S)) == []


def test_one_that_joins_later_finds_the_file_again(ask: Callable[..., Candidates], tmp_path: Path) -> None:
    asked = ask("tcp://a")
    assert only_answer(asked).why_not == ""
    assert list(tmp_path.iterdir()) == []
    asked.ask("tcp://b", WITHOUT)
    assert only_answer(asked) == Answer("tcp://b", 3, "")


def test_a_folder_that_is_not_there_is_made(ask: Callable[..., Candidates], tmp_path: Path) -> None:
    assert only_answer(ask("tcp://a", folder=tmp_path / "new" / "folder")).why_not == ""


def test_the_worker_itself_is_asked_and_a_check_may_take_longer(
    ask: Callable[..., Candidates], client: FakeClient
) -> None:
    assert only_answer(ask("tcp://a", check=lambda: "")).why_not == ""
    assert client.waits == [(["tcp://a"], seconds) for seconds in (ANSWER_S, ANSWER_S, CHECK_S)]


def test_another_version_is_refused(ask: Callable[..., Candidates], client: FakeClient) -> None:
    client.versions["tcp://a"] = "0.0.1"
    assert only_answer(ask("tcp://a")).why_not == (
        f"it has flowkit 0.0.1, expected {__version__}: install the same version there"
    )


@pytest.mark.parametrize(
    "error", [ImportError("no cv2"), RuntimeError("ModuleNotFoundError: No module named 'flowkit'")]
)
def test_a_worker_that_cannot_import_flowkit_is_told_to_install_it(
    ask: Callable[..., Candidates], client: FakeClient, error: Exception
) -> None:
    client.failing["tcp://a"] = error
    why = only_answer(ask("tcp://a")).why_not
    assert why == f"it cannot import flowkit {__version__} ({error}): install it there"


def test_the_cause_of_an_error_counts_as_well(ask: Callable[..., Candidates], client: FakeClient) -> None:
    error = RuntimeError("a task failed")
    error.__cause__ = ImportError("no h5py")
    client.failing["tcp://a"] = error
    assert "install it there" in only_answer(ask("tcp://a")).why_not


def test_any_other_error_is_the_reason(ask: Callable[..., Candidates], client: FakeClient) -> None:
    client.failing["tcp://a"] = TimeoutError("20 s")
    assert only_answer(ask("tcp://a")).why_not == "it does not answer: TimeoutError('20 s')"


def test_a_worker_without_the_resource_is_refused_where_gpus_are_wanted(
    ask: Callable[..., Candidates],
) -> None:
    assert "no resource GPU" in only_answer(ask("tcp://a", gpus=True)).why_not
    assert only_answer(ask("tcp://a", gpus=True, facts=WITH_GPU)).why_not == ""


def test_every_worker_must_see_the_inputs(ask: Callable[..., Candidates], tmp_path: Path) -> None:
    (tmp_path / "there.mp4").touch()
    inputs = [str(tmp_path / name) for name in ("there.mp4", "gone.mp4")]
    assert only_answer(ask("tcp://a", inputs=inputs[:1])).why_not == ""
    assert only_answer(ask("tcp://a", inputs=inputs)).why_not == (
        f"it does not see {inputs[1]}: mount the same file system there, at the same path"
    )


def test_every_worker_must_see_the_folder(
    ask: Callable[..., Candidates], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(remote, "missing", lambda paths: [one for one in paths if tmp_path.name in one])
    assert f"it does not see {tmp_path}/.flowkit-" in only_answer(ask("tcp://a")).why_not


def test_a_check_says_why_not(ask: Callable[..., Candidates]) -> None:
    assert only_answer(ask("tcp://a", check=lambda: "no GPU")).why_not == "no GPU"


def test_an_error_of_the_check_is_the_reason(ask: Callable[..., Candidates]) -> None:
    def check() -> str:
        raise ImportError("no cupy")

    assert (
        only_answer(ask("tcp://a", check=check)).why_not == "the check of it failed: ImportError('no cupy')"
    )


def test_a_worker_of_which_little_is_known_is_refused(ask: Callable[..., Candidates]) -> None:
    assert "it does not answer: KeyError" in only_answer(ask("tcp://a", facts={})).why_not
