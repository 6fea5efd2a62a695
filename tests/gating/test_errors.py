"""Errors of the trainer; tests/test_errors.py holds their tree."""

from __future__ import annotations

import pytest

from flowkit.errors import FlowkitError, InvalidParameterError
from gating.errors import NotFittedError, WeightsUnavailableError


def test_a_fusion_that_was_not_fitted_is_named_with_the_remedy() -> None:
    class Gate:
        pass

    with pytest.raises(InvalidParameterError, match=r"Gate must be fitted before .* call fit first"):
        raise NotFittedError(Gate())


def test_code_without_flowkits_names_catches_them_by_the_builtin() -> None:
    with pytest.raises(OSError, match="no package"):
        raise WeightsUnavailableError("no package")
    assert issubclass(WeightsUnavailableError, FlowkitError)
