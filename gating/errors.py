"""What can go wrong in the trainer, below flowkit's own tree of errors.

::

    FlowkitError
    └── GatingError
        ├── CheckpointError (ValueError)    a checkpoint that is none, or of another configuration or data
        ├── ScoresError (ValueError)        a file of scores that is absent, damaged or of other clips
        ├── TrainingError (ArithmeticError) a loss that is not a number
        ├── WeightsError (ValueError)       a file of weights that does not fit, or is none
        └── WeightsUnavailableError (OSError)   no installed package gives these weights
"""

from __future__ import annotations

from flowkit.errors import FlowkitError


class GatingError(FlowkitError):
    """Something about networks, fusion or training."""


class WeightsError(GatingError, ValueError):
    """A file of weights is unsafe, unreadable, or has other keys or shapes than the network."""


class WeightsUnavailableError(GatingError, OSError):
    """Pretrained weights were asked for that no installed package gives."""


class CheckpointError(GatingError, ValueError):
    """A checkpoint is unreadable, or was made with another configuration or from other data."""


class ScoresError(GatingError, ValueError):
    """Scores are absent, damaged, or do not speak of the same clips."""


class TrainingError(GatingError, ArithmeticError):
    """Training cannot go on: a loss is NaN or infinite."""
