"""One self-contained HTML page of a run: accuracy of its fusions, and the gate's gains and losses.

`write_report` makes it from a run's folder of `flowkit train` and `flowkit eval`; the page loads
nothing. `data` has its figures, `sections` and `clips` the content of its templates, `format` the
text of numbers and `charts` the drawings.
"""

from __future__ import annotations

from gating.report.page import write_report
from gating.run_folder import newest_run

__all__ = ["newest_run", "write_report"]
