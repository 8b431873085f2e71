"""The page of the lifecycle is made from the table."""

from __future__ import annotations

import re
from pathlib import Path

from jobstate import diagram
from jobstate.lifecycle import MACHINE

PAGE = Path(__file__).parent.parent / "docs" / "lifecycle.md"


def test_the_page_of_the_lifecycle_is_fresh() -> None:
    assert PAGE.read_text() == diagram.page()


def test_the_diagram_has_every_move_of_the_machine_and_no_other() -> None:
    drawn = {
        (source, target, event)
        for source, target, events in re.findall(r"^    (\w+) --> (\w+): (.+)$", diagram.mermaid(), re.MULTILINE)
        for event in events.split(", ")
    }
    declared = {
        (source.lower(), str(rule.dest).lower(), name)
        for name, event in MACHINE.events.items()
        for source, rules in list(event.transitions.items())
        for rule in rules
        if rule.dest != source
    }
    assert drawn == declared
