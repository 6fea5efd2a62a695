"""`flowkit predict --csv`: a row for each prediction or failure, a column for each class."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flowkit.atomic import replacement, sweep_temporaries
from flowkit.errors import InputError
from flowkit.store.record import Failure

if TYPE_CHECKING:
    from gating.prediction import Outcome

CLASS = "p_"
"""Before a class's name, for the column of its probability: classes may have the names of other columns."""
WINDOW = ("first_frame", "last_frame", "start", "end")
_HEAD = ("video_id", "source", "label", "reason", "detail")
_PREDICTED = ("predicted", "weight_flow", "weight_rgb", "fallback")


@contextlib.contextmanager
def prediction_table(
    path: Path, classes: Sequence[str], *, windows: bool
) -> Iterator[Callable[[Outcome], None]]:
    """Yield a function that adds a row; the file has its name once all are written, and none if that fails.

    Parameters
    ----------
    path
        A file of that name is replaced.
    classes
        Of the run, in the order of their columns; a prediction has the probabilities of all.
    windows
        Each prediction is of a window, whose columns are `WINDOW`.

    Raises
    ------
    InputError
        There is no such folder.
    """
    if not path.parent.is_dir():
        raise InputError(f"--csv {path}: there is no folder {path.parent}; make it first")
    sweep_temporaries({path.parent: f"{path.name}."})
    names = (*_HEAD, *(WINDOW if windows else ()), *_PREDICTED, *(CLASS + name for name in classes))
    with replacement(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, names, restval="", lineterminator="\n")
        table.writeheader()
        yield lambda outcome: table.writerow(_row(outcome, windows=windows))


def _row(outcome: Outcome, *, windows: bool) -> dict[str, object]:
    if isinstance(outcome, Failure):
        own = {name: getattr(outcome, name) for name in ("source", "reason", "detail")}
        return {"video_id": outcome.video_id or outcome.source, **own}
    flow, rgb = outcome.weights or ("", "")
    row = {name: getattr(outcome, name) for name in ("video_id", "source", "label", "fallback")}
    row |= {name: getattr(outcome, name) for name in WINDOW} if windows else {}
    row |= {"predicted": outcome.classes[0], "weight_flow": flow, "weight_rgb": rgb}
    pairs = zip(outcome.classes, outcome.probabilities, strict=True)
    return row | {CLASS + name: probability for name, probability in pairs}
