"""The results of a fusion of two streams that other tools computed: `results.json`, as of a training run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from gating.evaluation.comparison import TrialComparison
from gating.evaluation.results import FusionResults, fusion_results, utc_now, versions
from gating.fusing.gate_maps import GateMaps
from gating.fusing.inputs import StreamArrays
from gating.fusing.joined import JoinedStreams
from gating.fusing.trial import FuseConfig


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FuseData:
    """The data of a fusion.

    Attributes
    ----------
    streams : mapping of str to str
        Name of the stream that stands for "rgb", the first, and for "flow", the second.
    inputs : mapping of str to str
        What each of them gave, and what is used of it.
    gate : str
        What the gate reads, or why there is none.
    classes : tuple of str
        In the order of the scores.
    clips : int
        That both streams and the labels have.
    """

    streams: Mapping[str, str]
    inputs: Mapping[str, str]
    gate: str
    classes: tuple[str, ...]
    clips: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FuseResults(FusionResults):
    """All fusions over all trials, with configuration, data and versions: `results.json`.

    Attributes
    ----------
    fusions, chosen, gains, headroom, trials
        As `FusionResults`; "rgb" is the first stream, "flow" the second.
    config : FuseConfig
        Of the first trial; trials differ in `seed` alone.
    data : FuseData
        Streams, classes and clips.
    versions : mapping of str to str
        Of flowkit, torch, numpy and python.
    created : str
        UTC, ISO 8601, to the second.
    """

    config: FuseConfig
    data: FuseData
    versions: Mapping[str, str]
    created: str

    def to_json(self) -> dict[str, object]:
        """Return the content of `results.json`: plain JSON values; NaN becomes None."""
        # A dataclass with slots is made anew, so that `super()` would name the class before.
        return {
            **FusionResults.to_json(self),
            "config": self.config.to_json(),
            "data": dataclasses.asdict(self.data),
            "versions": dict(self.versions),
            "created": self.created,
        }


def data_of(given: Sequence[StreamArrays], joined: JoinedStreams, maps: GateMaps | str) -> FuseData:
    """Return the record of two streams as they were given, and of what is used of them."""
    first, second = given
    return FuseData(
        streams={"rgb": first.name, "flow": second.name},
        inputs={"rgb": _input_line("rgb", first), "flow": _input_line("flow", second)},
        gate=maps if isinstance(maps, str) else maps.about,
        classes=joined.classes,
        clips=len(joined.labels),
    )


def _input_line(modality: str, stream: StreamArrays) -> str:
    shapes = [
        f"{key} {' x '.join(map(str, array.shape[1:]))}"
        for key, array in (("scores", stream.scores), ("features", stream.features), ("maps", stream.maps))
        if array is not None
    ]
    if stream.gives_scores:
        use = "its scores are taken as those of networks that did not learn from these clips"
    elif stream.features is None:
        use = "linear heads on the means of its maps"
    elif stream.scores is None:
        use = "linear heads on its features"
    else:
        use = "linear heads on its features; its scores are not used (leave features out to use them)"
    return f"{modality} is {stream.name} ({', '.join(shapes)}): {use}"


def results_of(comparisons: Sequence[TrialComparison], config: FuseConfig, data: FuseData) -> FuseResults:
    """Return the results of all trials."""
    table = fusion_results(comparisons)
    return FuseResults(
        fusions=table.fusions,
        chosen=table.chosen,
        gains=table.gains,
        headroom=table.headroom,
        trials=table.trials,
        config=config,
        data=data,
        versions=versions(),
        created=utc_now(),
    )
