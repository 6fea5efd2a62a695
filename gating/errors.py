"""Errors of the trainer, below flowkit's own tree.

::

    FlowkitError
    └── GatingError
        ├── CheckpointError (ValueError)    a checkpoint that is none, or of another configuration or data
        ├── NotFittedError (InvalidParameterError)  a fusion that was applied before it was fitted
        ├── ScoresError (ValueError)        a file of scores that is absent, damaged or of other clips
        ├── TrainingError (ArithmeticError) a loss that is not a number
        ├── WeightsError (ValueError)       a file of weights that does not fit, or is none
        └── WeightsUnavailableError (OSError)   no installed package has these weights
"""

from __future__ import annotations

from flowkit.errors import FlowkitError, InvalidParameterError


class GatingError(FlowkitError):
    """An error of networks, fusion or training."""


class WeightsError(GatingError, ValueError):
    """A file of weights is unsafe, unreadable, or has other keys or shapes than the network."""


class WeightsUnavailableError(GatingError, OSError):
    """No installed package has the pretrained weights that were asked for."""


class CheckpointError(GatingError, ValueError):
    """A checkpoint is unreadable, or was made with another configuration or from other data."""


class ScoresError(GatingError, ValueError):
    """Scores are absent, damaged, or not of the same clips."""


class NotFittedError(GatingError, InvalidParameterError):
    """`apply` came before `fit`."""

    def __init__(self, fusion: object) -> None:
        super().__init__(f"{type(fusion).__name__} must be fitted before it is applied; call fit first")


class TrainingError(GatingError, ArithmeticError):
    """Training cannot go on: a loss is NaN or infinite."""
