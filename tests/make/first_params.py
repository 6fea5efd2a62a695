"""The parameters of the six presets as the first version wrote them into stores."""

from __future__ import annotations

import json

_COMMON = {"tau": 0.25, "lambda_": 0.15, "theta": 0.3, "check_every": 10, "median": 0, "median_every": 30}
_OPENCV = {
    **_COMMON,
    "nscales": 5,
    "scale_step": 0.8,
    "pyramid": "resize",
    "warps": 5,
    "iterations": 300,
    "epsilon": 0.01,
    "bicubic_a": -0.5,
    "border": "clamp",
    "presmooth_sigma": 0.0,
    "normalize": False,
}
_OURS = {**_OPENCV, "nscales": 100, "bicubic_a": -0.6, "border": "off"}

FIRST_TEXTS = {
    name: json.dumps(values, sort_keys=True)
    for name, values in {
        "opencv-cuda": _OPENCV,
        "tsn": {**_OPENCV, "pyramid": "pyrdown", "scale_step": 0.5},
        "opencv-cpu": {**_OPENCV, "median": 5, "bicubic_a": -0.75, "border": "off"},
        "ipol": {
            **_OPENCV,
            "nscales": 100,
            "scale_step": 0.5,
            "pyramid": "gaussian",
            "border": "off",
            "presmooth_sigma": 0.8,
            "normalize": True,
        },
        "accurate": {**_OURS, "warps": 10, "iterations": 30, "epsilon": 0.005},
        "fast": {**_OURS, "scale_step": 0.75, "warps": 2, "epsilon": 0.013},
    }.items()
}
