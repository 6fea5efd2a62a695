"""A trial's networks → scores of its clips → every fusion fitted and judged."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from gating.batches import Batches
from gating.evaluation.infer import Networks, joined_scores, score_clips
from gating.evaluation.judge import Judgement, SplitKind, judge
from gating.evaluation.results import write_judgement
from gating.evaluation.scores import ClipScores
from gating.run_folder import scores_path

Copies = Callable[[], Iterable[Networks]]
"""Gives the stream copies in the order of the data's folds; drawn one at a time."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Judging:
    """What judging a trial takes; segments, crops and precision are the configuration's.

    Parameters
    ----------
    networks : Networks
        The final ones.
    copies : callable
        Gives the copies, where gate data are "out-of-fold".
    batches : Batches
        Read the trial's clips.
    folder : Path
        Gets scores/*.npz, fused.npz and judgement.json, from the first process.
    """

    networks: Networks
    copies: Copies
    batches: Batches
    folder: Path

    def run(self, kind: SplitKind) -> Judgement:
        """Score test, validation and fit clips, fit every rival, and judge all on the test clips."""
        data, config = self.batches.data, self.batches.config
        test, validation = (self._kept(self._scored(self.networks, part), part) for part in _PARTS)
        judgement = judge(
            test,
            fit_on=self._kept(self._fit_scores(validation), "fit"),
            validation=validation,
            split=data.split,
            part=data.part,
            kind=kind,
            seed=config.seed,
        )
        if self.batches.place.leads:
            write_judgement(self.folder, judgement)
        return judgement

    def _fit_scores(self, validation: ClipScores) -> ClipScores:
        """Return scores that the rivals are fitted on: of clips the networks did not learn from."""
        data, config = self.batches.data, self.batches.config
        if config.gate_data == "holdout":
            return self._scored(dataclasses.replace(self.networks, gate=None), "gate")
        if not data.folds:
            return validation
        pairs = zip(self.copies(), data.folds, strict=True)
        return joined_scores([self._of(copy, ids, features=False) for copy, ids in pairs])

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
        if self.batches.place.leads:
            scores.save(scores_path(self.folder, part))
        return scores


_PARTS = ("test", "validation")
