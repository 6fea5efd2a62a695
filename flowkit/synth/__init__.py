"""Procedural labelled clips with true flow: the project's own test and demo data.

`plan` has the settings of a set and lists its clips, `motion` and `texture` define the motion and the
appearance of the classes, `scene` renders frames and flow, `dataset` writes the files.
"""

from __future__ import annotations

from flowkit.synth.dataset import make_dataset
from flowkit.synth.plan import APPEARANCES, MODES, MOTIONS, SynthClip, SynthConfig, plan_clips
from flowkit.synth.scene import Scene, build_scene

__all__ = [
    "APPEARANCES",
    "MODES",
    "MOTIONS",
    "Scene",
    "SynthClip",
    "SynthConfig",
    "build_scene",
    "make_dataset",
    "plan_clips",
]
