"""`flowkit flow`: the flow between two pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import take_tvl1_params, tvl1_options

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_LEAST_PANEL_PX = 160


@click.command("flow")
@click.argument("first", metavar="IMG0", type=click.Path(path_type=Path))
@click.argument("second", metavar="IMG1", type=click.Path(path_type=Path))
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    help=".flo: the flow in float32; .png or another picture: on the colour wheel, with its legend.",
)
@click.option(
    "--max-px", type=click.FloatRange(min=0, min_open=True), help="Magnitude of full colour.  [default: fits]"
)
@click.option(
    "--backend",
    type=click.Choice(["auto", "cpu", "cuda", "opencv", "reference"]),
    default="auto",
    show_default=True,
    help="What computes the flow; auto takes the fastest there is and says why.",
)
@tvl1_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(first: Path, second: Path, out: Path | None, **options: Any) -> None:
    """Compute the TV-L1 flow from picture IMG0 to picture IMG1, and say how large it is."""
    from flowkit.frames import to_grey
    from flowkit.tvl1.backend import choose_backend
    from flowkit.tvl1.pairs import check_pair
    from flowkit.view.canvas import read_rgb

    max_px, as_json = options.pop("max_px"), options.pop("as_json")
    choice = choose_backend(options.pop("backend"), take_tvl1_params(options))
    pictures = [read_rgb(path) for path in (first, second)]
    grey = check_pair(*(to_grey(picture) for picture in pictures))
    flow = _solve(choice.solver, grey)
    if out:
        _write(out, flow, frame=pictures[0], title=f"{first.name} to {second.name}", max_px=max_px)
    facts = _facts(flow) | {"backend": choice.reason, "device": choice.solver.device}
    facts["deviations"] = list(choice.solver.deviations)
    click.echo(json.dumps(facts) if as_json else _sentence(facts, out))


def _solve(solver: Any, grey: Any) -> NDArray[np.float32]:
    import numpy as np

    flow: NDArray[np.float32] = solver.flow_batch(np.stack(grey), np.array([[0, 1]]))[0]
    return flow


def _facts(flow: NDArray[np.float32]) -> dict[str, Any]:
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


def _sentence(facts: dict[str, Any], out: Path | None) -> str:
    lines = [
        f"{facts['width']}x{facts['height']}: |flow| mean {facts['mean_px']:.3f} px, max "
        f"{facts['max_px']:.3f} px; mean u {facts['mean_u_px']:+.3f}, v {facts['mean_v_px']:+.3f} px",
        f"backend {facts['backend']} ({facts['device']})",
        *(f"  deviates: {deviation}" for deviation in facts["deviations"]),
    ]
    return "\n".join([*lines, *([str(out)] if out else [])])


def _write(out: Path, flow: NDArray[np.float32], *, frame: Any, title: str, max_px: float | None) -> None:
    import numpy as np

    from flowkit.flo import SUFFIX, write_flo
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
