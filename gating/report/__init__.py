"""One self-contained HTML page of a run: how good the gate is, where it helps and where it harms.

`write_report` makes it from what `flowkit train` and `flowkit eval` left in a run's folder; the
page loads nothing. `data` holds what is computed for it, `sections` and `clips` what each of its
templates shows, `format` words the numbers and `charts` draws them.
"""

from __future__ import annotations

from gating.report.page import write_report
from gating.run_folder import newest_run

__all__ = ["newest_run", "write_report"]
