"""Streams joined on ids: the clips of both, columns in one order, and what is left out named."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from flowkit.errors import InputError
from gating.fusing.inputs import StreamArrays
from gating.fusing.joined import join_streams

LABELS = {"a": "y", "b": "x", "c": "x", "d": "y"}


def featured(ids: str) -> StreamArrays:
    return StreamArrays(name="one", ids=tuple(ids), features=np.array([[ord(k)] for k in ids], np.float32))


def scored(ids: str, *classes: str) -> StreamArrays:
    scores = np.array([[ord(k) * 100 + ord(name[0]) for name in classes] for k in ids], float)
    return StreamArrays(name="two", ids=tuple(ids), scores=scores, classes=classes)


def test_clips_are_those_of_both_in_the_order_of_their_ids() -> None:
    with pytest.warns(RuntimeWarning) as caught:
        joined = join_streams(featured("daceb"), scored("bxad", "x", "y"), {**LABELS, "d": ""})
    assert [str(one.message).partition(";")[0] for one in caught] == [
        "2 clips of one are not in the other stream: ['c', 'e']",
        "1 clips of two are not in the other stream: ['x']",
        "1 clips of both streams have no label: ['d']",
    ]
    assert joined.labels == {"a": "y", "b": "x"}
    assert joined.rgb.features is not None
    assert joined.rgb.features[:, 0].tolist() == [ord("a"), ord("b")]
    assert joined.flow.ids == joined.rgb.ids == ("a", "b")


def test_columns_of_scores_have_one_order_and_may_be_more_than_the_labels() -> None:
    joined = join_streams(scored("abcd", "x", "y", "z"), scored("abcd", "z", "x", "y"), LABELS)
    assert joined.classes == ("x", "y", "z")
    assert np.array_equal(joined.rgb.scores, joined.flow.scores)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other", "labels", "message"),
    [
        (featured("ab"), featured("cd"), LABELS, "no id in common, such as 'a' and 'c'"),
        (featured("ab"), featured("ab"), {"c": "x"}, "no clip of both streams has a label, such as 'a'"),
        (featured("bc"), featured("bc"), LABELS, r"2 classes or more, got \['x'\]"),
        (scored("ab", "x", "z"), featured("ab"), LABELS, r"no column of scores for 1 labels: \['y'\]"),
        (scored("ab", "x", "y"), scored("ab", "x", "y", "z"), LABELS, r"the same classes, .* has \['z'\]"),
    ],
)
def test_streams_that_do_not_fit_are_refused(
    one: StreamArrays, other: StreamArrays, labels: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        join_streams(one, other, labels)
