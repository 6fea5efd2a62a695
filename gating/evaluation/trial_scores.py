"""The scores of a trial's clips by its networks, and the comparison of all fusions on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from gating.data.loader import ClipLoader
from gating.evaluation.comparison import SplitKind, TrialComparison, compare_fusions
from gating.evaluation.out_of_fold import compare_out_of_fold
from gating.evaluation.results import write_comparison
from gating.evaluation.scores import ClipScores, Networks, joined_scores, score_clips
from gating.run_folder import scores_path

OutOfFold = Callable[[], Iterable[Networks]]
"""Returns the out-of-fold networks in the order of the data's folds; drawn one pair at a time."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Scoring of a trial's clips and comparison of all fusions, by the configuration's segments and crops.

    Parameters
    ----------
    networks : Networks
        The final ones.
    out_of_fold : callable
        Returns the streams that were trained without a fold, where gate data are "out-of-fold"; where every
        clip trains, also the gate, with the final streams for its maps.
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
        """Score test, validation and fit clips, fit every fusion, and compare all on the test clips.

        Where every clip trains, all are compared on out-of-fold scores.
        """
        data, config = self.batches.data, self.batches.config
        if config.all_clips:
            return self._run_out_of_fold()
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

    def _run_out_of_fold(self) -> TrialComparison:
        data = self.batches.data
        held_out = self._out_of_fold_scores()
        for part in ("test", "validation", "fit"):
            self._kept(held_out, part)
        comparison = compare_out_of_fold(
            held_out, data.folds, split=data.split, seed=self.batches.config.seed
        )
        if self.batches.process_group.is_main:
            write_comparison(self.folder, comparison)
        return comparison

    def _out_of_fold_scores(self) -> ClipScores:
        pairs = zip(self.out_of_fold(), self.batches.data.folds, strict=True)
        return joined_scores([self._of(networks, ids, features=False) for networks, ids in pairs])

    def _fit_scores(self, validation: ClipScores) -> ClipScores:
        """Return scores to fit fusions on: of clips that their networks did not learn from."""
        data, config = self.batches.data, self.batches.config
        if config.gate_data == "holdout":
            return self._scored(dataclasses.replace(self.networks, gate=None), "gate")
        if not data.folds:
            return validation
        return self._out_of_fold_scores()

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
