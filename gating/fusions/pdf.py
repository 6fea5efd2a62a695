"""Weights of each clip by the predicted probability of its true class, the late fusion of PDF.

Source: Cao et al., "Predictive Dynamic Fusion" (PDF), arXiv 2406.04802, and its release, GitHub
Yinan-Xia/PDF, src/models/latefusion_pdf.py. With t_m the predicted probability that stream m gives to the
true class, o the other stream, p_m the stream's softmax and C classes:

    mono_m = t_m                                  of the stream itself
    holo_m = ln t_o / (ln t_m + ln t_o)           of the other one's weakness
    CB_m   = mono_m + holo_m                      "Co-Belief"
    DU_m   = mean_c |p_m[c] - 1/C|                distance from uniform
    RC_m   = min(1, DU_m / DU_o)                  relative calibration: the flatter stream counts less
    w      = softmax over m of (CB_m RC_m)
    z      = w_flow z_flow + w_rgb z_rgb

Taken are these equations as the release applies them at test. A weight is within a factor of e^2 of the other
one, since CB_m RC_m is in [0, 2]: this fusion never leaves a stream.

Different here: the streams are finished, and the regressors of t_m are fitted on held-out clips, on which the
streams' true-class probabilities are those of new clips; PDF trains streams and regressors together on the
training clips. A regressor reads the scores, so that it can be fitted on out-of-fold streams' scores too,
where PDF's reads the features; both are a linear map and a sigmoid (the release has no activation between
its layers). Its loss is the cross-entropy with the true-class probability as target, which is convex and
has the mean as its optimum; the release takes the absolute error, whose optimum is the median.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from gating.errors import NotFittedError
from gating.fusions.base import Fusion, FusionData, Kind, Scores, softmax, weigh_clips
from gating.fusions.linear import LinearModel, fit_linear, fold_numbers

# Of 0 and 1, whose log odds are infinite.
MARGIN = 1e-6


@dataclasses.dataclass(kw_only=True, slots=True)
class Pdf(Fusion):
    """Both streams' scores, weighed by what a regressor expects of each stream on the clip.

    Attributes
    ----------
    regressors : (LinearModel, LinearModel) or None
        Of flow and rgb: from `columns_of` its probabilities to the log odds of t.
    """

    kind = Kind.LEARNED

    regressors: tuple[LinearModel, LinearModel] | None = None

    def fit(self, data: FusionData, *, seed: int) -> None:
        """Fit each stream's regressor on its probability of the clips' true classes."""
        folds = fold_numbers(data, seed=seed)
        flow, rgb = softmax(data.flow), softmax(data.rgb)
        self.regressors = _regressor(flow, data.labels, folds), _regressor(rgb, data.labels, folds)

    def true_class(self, data: FusionData) -> Scores:
        """Return t, the predicted true-class probabilities of flow and rgb, float64 (N, 2), in (0, 1)."""
        if self.regressors is None:
            raise NotFittedError(self)
        both = [
            model(columns_of(softmax(scores)))[:, 0]
            for model, scores in zip(self.regressors, (data.flow, data.rgb), strict=True)
        ]
        return np.clip(1 / (1 + np.exp(-np.stack(both, axis=1))), MARGIN, 1 - MARGIN)

    def apply(self, data: FusionData) -> Scores:
        """Return the weighted sum, float64 (N, classes)."""
        return weigh_clips(data, self.clip_weights(data))

    def clip_weights(self, data: FusionData) -> Scores:
        """Return each clip's weights of flow and rgb, float64 (N, 2), with the sum 1."""
        return weights_of(self.true_class(data), softmax(data.flow), softmax(data.rgb))


def weights_of(true_class: Scores, flow: Scores, rgb: Scores) -> Scores:
    """Return the module's weights w, float64 (N, 2).

    Parameters
    ----------
    true_class
        t of flow and rgb, (N, 2), in (0, 1).
    flow, rgb
        Probabilities, (N, classes).
    """
    logs = np.log(true_class)
    belief = true_class + logs[:, ::-1] / logs.sum(axis=1, keepdims=True)
    from_uniform = np.stack([np.abs(p - 1 / p.shape[1]).mean(axis=1) for p in (flow, rgb)], axis=1)
    # DU_m / max(DU) is min(1, DU_m / DU_o); two flat streams count alike.
    most = from_uniform.max(axis=1, keepdims=True)
    relative = np.divide(from_uniform, most, out=np.ones_like(from_uniform), where=most > 0)
    return softmax(belief * relative)


def columns_of(probabilities: Scores) -> Scores:
    """Return what a regressor reads of probabilities (N, classes), float64 (N, classes + 2).

    The log odds of sum_c p[c]^2, which is the true-class probability that a calibrated stream expects of
    itself; the entropy; and each class's probability, since a stream knows some classes better than others.
    """
    expected = np.clip((probabilities**2).sum(axis=1, keepdims=True), MARGIN, 1 - MARGIN)
    logs = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    entropy = -(probabilities * logs).sum(axis=1, keepdims=True)
    return np.concatenate([np.log(expected / (1 - expected)), entropy, probabilities], axis=1)


def _regressor(probabilities: Scores, labels: NDArray[np.int64], folds: NDArray[np.int64]) -> LinearModel:
    targets = torch.from_numpy(probabilities[np.arange(len(labels)), labels])[:, None]
    return fit_linear(
        columns_of(probabilities), targets, folds, outputs=1, loss=F.binary_cross_entropy_with_logits
    )
