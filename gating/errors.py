"""What can go wrong in the trainer, below flowkit's own tree of errors.

::

    FlowkitError
    └── GatingError
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
