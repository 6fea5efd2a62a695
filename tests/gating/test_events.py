"""The names of events are those of the table."""

from __future__ import annotations

import re
from pathlib import Path

from gating import events


def test_every_event_that_is_sent_is_in_the_table_and_the_other_way_round() -> None:
    rows = re.findall(r"^([a-z_]+(?:, [a-z_]+)*) {2,}\S", str(events.__doc__), re.MULTILINE)
    listed = {name for row in rows for name in row.split(", ")}
    folder = Path(str(events.__file__)).parent
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.py")))
    sent = set(re.findall(r'"event": "(\w+)"', text))
    assert sent
    assert sent <= listed


def test_an_event_is_ignored_where_nobody_asks_for_it() -> None:
    event: events.Event = {"event": "note", "text": "x"}
    receiver: events.OnEvent = events.ignore
    receiver(event)
    assert event == {"event": "note", "text": "x"}
