"""`flowkit flow`: the flow between two images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import take_tvl1_params, tvl1_options
from .streams import echo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from flowkit.tvl1.backend import BackendChoice
    from flowkit.tvl1.engine import Solver
    from flowkit.typing import Flow, UInt8

_LEAST_PANEL_PX = 160


@click.command("flow")
@click.argument("first", metavar="IMG0", type=click.Path(path_type=Path))
@click.argument("second", metavar="IMG1", type=click.Path(path_type=Path))
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    help=".flo: the flow in float32; .png or another image: on the colour wheel, with its legend.",
)
@click.option(
    "--max-px", type=click.FloatRange(min=0, min_open=True), help="Magnitude of full colour.  [default: fits]"
)
@click.option(
    "--backend",
    type=click.Choice(["auto", "cpu", "cuda", "opencv", "reference"]),
    default="auto",
    show_default=True,
    help="Engine that computes the flow; auto takes the fastest available and prints why.",
)
@tvl1_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(first: Path, second: Path, out: Path | None, **options: Any) -> None:
    """Compute the TV-L1 flow from image IMG0 to image IMG1, and print its magnitude."""
    from flowkit.frames import to_grey
    from flowkit.tvl1.backend import choose_backend
    from flowkit.tvl1.engine import check_pair
    from flowkit.tvl1.params import DEFAULT_PRESET
    from flowkit.view.canvas import read_rgb

    max_px, as_json = options.pop("max_px"), options.pop("as_json")
    choice = choose_backend(options.pop("backend"), take_tvl1_params(options) or DEFAULT_PRESET)
    images = [read_rgb(path) for path in (first, second)]
    grey = check_pair(*(to_grey(image) for image in images))
    flow = _solve(choice.solver, grey)
    if out:
        _write(out, flow, frame=images[0], title=f"{first.name} to {second.name}", max_px=max_px)
    measured = _measured(flow)
    if as_json:
        engine = {"backend": choice.reason, "device": choice.solver.device}
        click.echo(json.dumps(measured | engine | {"deviations": list(choice.solver.deviations)}))
    else:
        echo("\n".join([*_lines(measured, choice), *([str(out)] if out else [])]))


def _solve(solver: Solver, grey: Sequence[NDArray[np.generic]]) -> Flow:
    import numpy as np

    flow: Flow = solver.flow_batch(np.stack(grey), np.array([[0, 1]]))[0]
    return flow


def _measured(flow: Flow) -> dict[str, float]:
    import numpy as np

    speed = np.hypot(*flow)
    u, v = flow.mean(axis=(1, 2), dtype=np.float64)
    return {
        "width": flow.shape[2],
        "height": flow.shape[1],
        "mean_px": float(speed.mean(dtype=np.float64)),
        "max_px": float(speed.max()),
        "mean_u_px": float(u),
        "mean_v_px": float(v),
    }


def _lines(measured: Mapping[str, float], choice: BackendChoice) -> Iterator[str]:
    yield (
        f"{measured['width']}x{measured['height']}: |flow| mean {measured['mean_px']:.3f} px, max "
        f"{measured['max_px']:.3f} px; mean u {measured['mean_u_px']:+.3f}, v {measured['mean_v_px']:+.3f} px"
    )
    yield f"backend {choice.reason} ({choice.solver.device})"
    for deviation in choice.solver.deviations:
        yield f"  deviates: {deviation}"


def _write(out: Path, flow: Flow, *, frame: UInt8, title: str, max_px: float | None) -> None:
    import numpy as np

    from flowkit.flow_files.flo import SUFFIX, write_flo
    from flowkit.view.canvas import write_image
    from flowkit.view.panels import draw_row, flow_panels
    from flowkit.view.wheel import fitting_scale

    if out.suffix.lower() == SUFFIX:
        write_flo(out, flow)
    else:
        scale = max_px or fitting_scale(np.hypot(*flow))
        panels = flow_panels(frame, flow, max_px=scale)
        width = max(_LEAST_PANEL_PX, flow.shape[2])
        write_image(out, draw_row(panels, title=title, max_px=scale, unit="px", tile_width=width))
