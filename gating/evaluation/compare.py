"""A trial's networks → scores of its clips → every fusion fitted, applied to the test clips, and compared.

The test clips are used once. A trial is one split (or one fold of it) and one seed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from gating.config import BASELINE, GATING
from gating.data.loader import ClipLoader
from gating.errors import ScoresError
from gating.evaluation.comparison import SplitKind, TrialComparison
from gating.evaluation.infer import Networks, joined_scores, score_clips
from gating.evaluation.results import write_comparison
from gating.evaluation.scores import ClipScores
from gating.fusions import FUSIONS, Fusion, FusionData, Scores, build_fusion
from gating.fusions.fixed import Search
from gating.run_folder import scores_path
from gating.statistics import top1

OutOfFold = Callable[[], Iterable[Networks]]
"""Returns the out-of-fold streams in the order of the data's folds; drawn one pair at a time."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Scoring of a trial's clips and comparison of all fusions, by the configuration's segments and crops.

    Parameters
    ----------
    networks : Networks
        The final ones.
    out_of_fold : callable
        Returns the streams that were trained without a fold, where gate data are "out-of-fold".
    batches : ClipLoader
        Reader of the trial's clips.
    folder : Path
        Destination of scores/*.npz, fused.npz and judgement.json, which the main process writes.
    """

    networks: Networks
    out_of_fold: OutOfFold
    batches: ClipLoader
    folder: Path

    def run(self, kind: SplitKind) -> TrialComparison:
        """Score test, validation and fit clips, fit every fusion, and compare all on the test clips."""
        data, config = self.batches.data, self.batches.config
        test, validation = (
            self._kept(self._scored(self.networks, part), part) for part in ("test", "validation")
        )
        comparison = compare_fusions(
            test,
            fit_on=self._kept(self._fit_scores(validation), "fit"),
            validation=validation,
            split=data.split,
            part=data.part,
            kind=kind,
            seed=config.seed,
        )
        if self.batches.process_group.is_main:
            write_comparison(self.folder, comparison)
        return comparison

    def _fit_scores(self, validation: ClipScores) -> ClipScores:
        """Return scores to fit fusions on: of clips that their networks did not learn from."""
        data, config = self.batches.data, self.batches.config
        if config.gate_data == "holdout":
            return self._scored(dataclasses.replace(self.networks, gate=None), "gate")
        if not data.folds:
            return validation
        pairs = zip(self.out_of_fold(), data.folds, strict=True)
        return joined_scores([self._of(streams, ids, features=False) for streams, ids in pairs])

    def _scored(self, networks: Networks, part: str) -> ClipScores:
        return self._of(networks, getattr(self.batches.data, part), features=True)

    def _of(self, networks: Networks, ids: Sequence[str], *, features: bool) -> ClipScores:
        config = self.batches.config
        return score_clips(
            networks,
            self.batches,
            ids,
            segments=config.test_segments,
            crops=config.test_crops,
            features=features,
            precision=self.batches.precision,
        )

    def _kept(self, scores: ClipScores, part: str) -> ClipScores:
        if self.batches.process_group.is_main:
            scores.save(scores_path(self.folder, part))
        return scores


def compare_fusions(
    test: ClipScores,
    *,
    fit_on: ClipScores,
    validation: ClipScores,
    split: str,
    part: str = "test",
    kind: SplitKind = "subset",
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> TrialComparison:
    """Fit every fusion on held-out clips and apply it to the test clips.

    Parameters
    ----------
    test
        Scores of the final streams and of the gate.
    fit_on
        Scores of clips that the streams which gave them did not learn from. Without features (they
        are out-of-fold streams' scores) the fusions that read features are fitted on `validation`.
    validation
        Scores of the final streams on clips kept from learning; they decide whether the gate is preferred.
    split, part, kind, seed
        Of the comparison.
    names
        Some of `gating.fusions.FUSIONS`, None is all; the baseline is always among them, and the
        gate where the clips have its scores.

    Raises
    ------
    ScoresError
        A clip has no label.
    """
    for role, clips in (("test", test), ("fit_on", fit_on), ("validation", validation)):
        if (clips.labels < 0).any():
            raise ScoresError(f"{role} has {(clips.labels < 0).sum()} clips without a label, expected none")
    tested, fitted, held = (one.fusion_data() for one in (test, fit_on, validation))
    asked = FUSIONS if names is None else names
    fusions = {name: build_fusion(name) for name in dict.fromkeys([*asked, BASELINE, GATING])}
    if tested.gated is None or held.gated is None:
        del fusions[GATING]
    for fusion in fusions.values():
        fusion.fit(fitted if fitted.offers(fusion.needs) else held, seed=seed)
    search = fusions[BASELINE]
    assert isinstance(search, Search)
    return TrialComparison(
        split=split,
        part=part,
        kind=kind,
        seed=seed,
        scores=test,
        fused={name: fusion.apply(tested) for name, fusion in fusions.items()},
        search_fraction=search.fraction or 0.0,
        validation={name: _top1(fusions[name], held) for name in (BASELINE, GATING) if name in fusions},
    )


def _top1(fusion: Fusion, clips: FusionData) -> float:
    scores: Scores = fusion.apply(clips)
    return top1(scores, clips.labels) if len(scores) else math.nan
