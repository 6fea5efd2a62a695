"""What a run's folder says beside its scores: `results.json`, which may lack anything."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gating.errors import ScoresError
from gating.evaluation.results import NAME

RESULTS = "results.json"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RunContext:
    """How a run came to be.

    Attributes
    ----------
    out : Path
        The run's folder.
    judged : datetime
        When the newest trial was judged, UTC.
    config, data, versions : mapping
        As in `results.json`; empty where it has none.
    """

    out: Path
    judged: datetime.datetime
    config: Mapping[str, Any]
    data: Mapping[str, Any]
    versions: Mapping[str, Any]

    @property
    def store(self) -> Path | None:
        """The store that was trained on, if the run names one and it is still there."""
        named = self.data.get("store")
        if not isinstance(named, str) or not Path(named).is_file():
            return None
        return Path(named)


def read_context(out: Path) -> RunContext:
    """Return what `results.json` of a run's folder says.

    Raises
    ------
    ScoresError
        It is there and is no JSON object.
    """
    content: Any = {}
    path = out / RESULTS
    if path.is_file():
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ScoresError(f"{path} is no JSON: {error}; make it again with `flowkit eval`") from error
    if not isinstance(content, dict):
        raise ScoresError(f"{path} must hold an object; make it again with `flowkit eval`")
    named = {name: content.get(name) for name in ("config", "data", "versions")}
    return RunContext(
        out=out,
        judged=datetime.datetime.fromtimestamp(_judged(out), datetime.UTC),
        **{name: value if isinstance(value, dict) else {} for name, value in named.items()},
    )


def newest_run(runs: Path = Path("runs")) -> Path:
    """Return the run of a folder of runs that was judged last.

    Raises
    ------
    ScoresError
        None has a finished trial.
    """
    found = [folder for folder in runs.glob("*") if any(_judgements(folder))]
    if not found:
        raise ScoresError(f"no run in {runs} has a finished trial; name the run's folder, or train one")
    return max(found, key=_judged)


def flattened(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield each value of nested mappings with its dotted name."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from flattened(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _judgements(out: Path) -> Iterator[Path]:
    return out.glob(f"*/seed*/{NAME}")


def _judged(out: Path) -> float:
    return max((path.stat().st_mtime for path in _judgements(out)), default=0.0)
