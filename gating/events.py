"""Events of a run in progress: plain dictionaries, made for a log of JSON lines.

====================  ==========================================================================
``event``             other keys
====================  ==========================================================================
trial                 split, part, seed, lines: a trial begins; lines describe its data and stages
step, epoch           stage, epoch, and the losses, accuracies and speeds of training
paused, resumed       stage, epoch, position: where an unfinished stage was left or is taken up
skipped, finished     stage, best_epoch
stopped               stage, epoch, epochs: a stage ends before its last epoch, as its patience has passed
features              done, clips: features of so many clips are computed
fitted                stage, and of a head penalty, of a gate share: one is fitted on features
judged                fusions are compared; validation: top-1 of the gate and the baseline there
unfinished, scoring   split, part, seed, and stages or clips: an evaluation's trials
note                  split, text: a harmless difference of a store (then with part and seed), or a
                      split that is kept in the run alone
====================  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Event = dict[str, Any]
"""An event's name under "event", and its plain values."""

OnEvent = Callable[[Event], None]
"""Receives each event, in the main process alone."""


def ignore(event: Event) -> None:
    """Do nothing with an event."""
