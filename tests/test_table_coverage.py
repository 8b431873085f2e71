"""The record of what was exercised of the table: what counts, as what, and what does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from jobstate import Event, Job, JobStatus, allowed_events, decide, explain
from jobstate.lifecycle import MACHINE, Facts, decision
from jobstate.testing.examples import TOKEN, T, filled_job
from jobstate.testing.table_coverage import Group, Item, TableCoverage, unrecorded

AT = T + 100
QUEUED, RUNNING = filled_job(JobStatus.QUEUED), filled_job(JobStatus.IN_PROGRESS)
START: Facts = {"token": "tok-new", "run": QUEUED.run}


@pytest.fixture
def coverage() -> Iterator[TableCoverage]:
    recorder = TableCoverage()
    recorder.start()
    yield recorder
    recorder.stop()


def seen(coverage: TableCoverage) -> set[tuple[str, str, str]]:
    return {(item.group, item.event, item.case) for item in coverage.seen}


CASES: list[tuple[Job, Event, Facts, list[tuple[str, str, str]]]] = [
    (QUEUED, Event.START, START, [("rows", "start", "queued -> in_progress")]),
    (QUEUED, Event.START, {**START, "run": 3}, [("refusals", "start", "queued [run_over]")]),
    (QUEUED, Event.START, {**START, "run": 5}, [("refusals", "start", "queued [run_not_reached]")]),
    (QUEUED, Event.BEGIN_CLEANUP, {}, [("no row", "begin_cleanup", "queued")]),
    (RUNNING, Event.START, {**START, "token": TOKEN}, [("repeats", "start", "already")]),
    (RUNNING, Event.START, START, [("no row", "start", "in_progress")]),
    (RUNNING, Event.EXPIRE, {}, [("refusals", "expire", "in_progress [not_due]")]),
]


@pytest.mark.parametrize(("job", "event", "facts", "expected"), CASES)
def test_a_decision_counts_as_what_it_was(
    job: Job, event: Event, facts: Facts, expected: list[tuple[str, str, str]], coverage: TableCoverage
) -> None:
    decide(job, event, AT, **facts)
    assert seen(coverage) == set(expected)


def test_a_row_that_was_passed_over_counts_with_its_reason(coverage: TableCoverage) -> None:
    """A rescue without attempts left meets the row to the queue first."""
    spent = filled_job(JobStatus.IN_PROGRESS, attempt_count=11)
    decide(spent, Event.RESCUE, T + 9_000)
    assert seen(coverage) == {
        ("refusals", "rescue", "in_progress [no_attempts_left]"),
        ("rows", "rescue", "in_progress -> failed"),
    }


def test_what_can_be_exercised_is_the_machine_of_transitions() -> None:
    """Rows, and statuses without one, as the engine that the table is declared with has them."""
    rows: set[tuple[str, str]] = set()
    sources: set[tuple[str, str]] = set()
    for name, event in MACHINE.events.items():
        for source, rules in list(event.transitions.items()):
            sources.add((name, source.lower()))
            rows |= {(name, f"{source.lower()} -> {str(rule.dest).lower()}") for rule in rules}
    everything = TableCoverage().everything
    assert {(item.event, item.case) for item in everything if item.group == Group.ROW} == rows
    missing = {(event.value, status.value) for event in Event for status in JobStatus} - sources
    assert {(item.event, item.case) for item in everything if item.group == Group.NO_ROW} == missing


def test_questions_do_not_count(coverage: TableCoverage) -> None:
    explain(QUEUED, Event.START, AT, **START)
    explain(QUEUED, Event.RETRY, AT)
    allowed_events(QUEUED, AT)
    assert coverage.seen == set()
    decide(QUEUED, Event.RETRY, AT, retry_key="another")
    assert seen(coverage) == {("no row", "retry", "queued")}, "what the refusal calls legal does not count"


def test_what_is_decided_unrecorded_counts_for_nobody() -> None:
    outer, inner = TableCoverage(), TableCoverage()
    outer.start()
    inner.start()
    with unrecorded():
        decide(QUEUED, Event.CANCEL, AT)
    assert outer.seen == inner.seen == set()
    decide(RUNNING, Event.CANCEL, AT)
    inner.stop()
    decide(QUEUED, Event.START, AT, **START)
    outer.stop()
    decide(QUEUED, Event.CANCEL, AT)
    assert seen(inner) == {("rows", "cancel", "in_progress -> cancelled")}
    assert seen(outer) == seen(inner) | {("rows", "start", "queued -> in_progress")}


def test_after_an_error_decisions_are_recorded_again(coverage: TableCoverage) -> None:
    with pytest.raises(KeyError), unrecorded():
        raise KeyError
    decide(QUEUED, Event.CANCEL, AT)
    assert len(coverage.seen) == 1


def test_a_recorder_leaves_everything_as_it_was() -> None:
    before = decision._answer
    recorder, other = TableCoverage(), TableCoverage()
    recorder.start()
    recorder.stop()
    assert decision._answer is before
    other.start()
    recorder.stop()
    assert decision._answer is not before, "stopped twice, it does not stop another"
    other.stop()
    assert decision._answer is before


def test_a_recorded_decision_is_the_same_decision(coverage: TableCoverage) -> None:
    answers: list[Any] = [decide(job, event, AT, **facts) for job, event, facts, _ in CASES]
    coverage.stop()
    assert answers == [decide(job, event, AT, **facts) for job, event, facts, _ in CASES]


def test_what_another_process_has_seen_is_counted_if_it_is_known() -> None:
    coverage = TableCoverage()
    coverage.add([("rows", "start", "queued -> in_progress"), ("rows", "start", "queued -> failed"), ("?", "", "")])
    assert coverage.seen == {Item("rows", "start", "queued -> in_progress")}


def test_a_report_counts_each_group_and_names_what_is_missing() -> None:
    coverage = TableCoverage()
    everything = sorted(coverage.everything)
    coverage.add(everything)
    total = len(everything)
    of = {group: sum(item.group == group for item in everything) for group in Group}
    assert [line.split() for line in coverage.report()] == [
        ["rows", str(of[Group.ROW]), "of", str(of[Group.ROW])],
        ["no", "row", str(of[Group.NO_ROW]), "of", str(of[Group.NO_ROW])],
        ["refusals", str(of[Group.REFUSAL]), "of", str(of[Group.REFUSAL])],
        ["repeats", str(of[Group.REPEAT]), "of", str(of[Group.REPEAT])],
        ["all", str(total), "of", str(total), "(100", "%)"],
    ]
    lacking = {("rows", "retry", "failed -> queued"), ("rows", "retry", "expired -> queued"), ("repeats", "start", "already")}
    coverage.seen -= {Item(*item) for item in lacking}
    assert coverage.report()[-2:] == [
        "missing rows: retry: expired -> queued, failed -> queued",
        "missing repeats: start: already",
    ]
    assert coverage.report()[0].split() == ["rows", str(of[Group.ROW] - 2), "of", str(of[Group.ROW])]


def test_a_percentage_is_rounded_down_and_reached_exactly() -> None:
    coverage = TableCoverage()
    everything = sorted(coverage.everything)
    coverage.add(everything[1:])
    exact = 100 * (len(everything) - 1) / len(everything)
    assert coverage.percent <= exact < coverage.percent + 0.1
    assert coverage.percent < 100
    assert coverage.reaches(exact - 0.001)
    assert not coverage.reaches(exact + 0.001)
    coverage.add(everything)
    assert coverage.percent == 100
    assert coverage.reaches(100)
