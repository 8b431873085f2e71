"""Many rows at once are read and written as each would be alone."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobstate import Job
from jobstate.adapters.sqlalchemy.batches import columns_of, divided
from jobstate.adapters.sqlalchemy.codec import SNAPSHOT, Write, jobs_of_many
from jobstate.lifecycle import Accepted
from jobstate.model import PAYLOADS, Event, JobResponse, JobStatus
from jobstate.testing import JobHistory, histories, jobs

OF_THE_ROW = {"record_job_id", "record_version"}
"""What a record takes from its row."""


def _row(job: Job) -> tuple[Any, ...]:
    """As a database gives it, with what a due page has behind it."""
    values = Write.new(job, None).values
    return (*(values[name] for name in SNAPSHOT), values["progress"], 1, job.id)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(jobs(), max_size=3))
def test_a_page_is_read_as_its_jobs_were(page: list[Job]) -> None:
    read, unreadable = jobs_of_many([_row(job) for job in page])
    assert read == [job.model_copy(update=dict.fromkeys(PAYLOADS)) for job in page]
    assert unreadable == []
    assert len({tuple(job.__dict__) for job in read}) < 2


@given(jobs())
def test_jobs_of_a_page_share_nothing_that_can_be_changed(job: Job) -> None:
    first, second = jobs_of_many([_row(job), _row(job)])[0]
    first.metadata["new"] = "pair"
    if first.trace_context is not None:
        first.trace_context["new"] = "pair"
    assert second == job.model_copy(update=dict.fromkeys(PAYLOADS))


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(jobs(), min_size=1, max_size=3), st.data())
def test_one_row_that_cannot_be_read_takes_no_other_with_it(page: list[Job], data: st.DataObject) -> None:
    rows = [_row(job) for job in page]
    bad = data.draw(st.integers(0, len(rows) - 1))
    column = data.draw(st.sampled_from(["version", "status", "metadata", "warnings", "expires_at"]))
    row = list(rows[bad])
    row[SNAPSHOT.index(column)] = "damaged"
    rows[bad] = tuple(row)
    read, unreadable = jobs_of_many(rows)
    assert [(error.job_id, error.field) for error in unreadable] == [(page[bad].id, column)]
    assert [job.id for job in read] == [job.id for number, job in enumerate(page) if number != bad]


def _alone(transition: Accepted, *, recorded: bool) -> dict[str, Any]:
    """What a save of it writes; a payload that is removed has no value."""
    write = Write.moved(transition, recorded=recorded)
    gone = {f"payload_{name}" for name, there in write.shape[1] if not there}
    return {name: value for name, value in write.values.items() if name not in OF_THE_ROW | gone}


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(histories(), max_size=3), st.booleans(), st.booleans())
def test_a_batch_writes_what_its_transitions_write_alone(walks: list[JobHistory[Job]], history: bool, sharing: bool) -> None:
    transitions = [transition for walk in walks for transition in walk.accepted]
    batches = divided(transitions)
    assert sorted(id(one) for batch in batches for one in batch) == sorted(map(id, transitions))
    for batch in batches:
        [shape] = {Write.moved(one, recorded=history).shape for one in batch}
        shared, own = columns_of(batch, recorded=shape[-1], sharing=sharing)
        assert sharing or not shared
        for number, one in enumerate(batch):
            values = {**shared, **{name: column[number] for name, column in own.items()}}
            assert values == _alone(one, recorded=history)
            assert one.version + 1 == values["version"]


def test_what_removes_a_payload_is_written_apart_from_what_puts_it() -> None:
    changes = {"version": 2, "response": None}
    gone = Accepted("job", Event.RETRY, JobStatus.FAILED, JobStatus.QUEUED, 1, 1, 1, "op", None, None, changes)
    put = gone._replace(changes={**changes, "response": JobResponse[Any](body=1)})
    assert divided([gone, put, gone]) == [[gone, gone], [put]]


def test_what_leaves_a_record_is_written_apart_from_what_writes_the_same_and_leaves_none() -> None:
    told = Accepted("job", Event.CANCEL, JobStatus.QUEUED, JobStatus.QUEUED, 1, 1, 1, "op", None, None, {"version": 2})
    quiet = told._replace(event=Event.HEARTBEAT)
    assert divided([told, quiet, told]) == [[told, told], [quiet]]
    shared = [columns_of(batch, recorded=batch[0].record is not None, sharing=True)[0] for batch in divided([told, quiet])]
    assert [len(values) for values in shared] == [11, 2]


def test_what_is_written_the_same_has_one_text_and_nothing_else_has_it() -> None:
    one = Accepted("job", Event.CANCEL, JobStatus.QUEUED, JobStatus.CANCELLED, 1, 1, 1, "op", None, None, {"version": 2})
    two = one._replace(job_id="other", version=2, changes={"version": 3})
    shared, own = columns_of([one, two, one], recorded=True, sharing=True)
    assert own["record_changes"] == ['{"version":2}', '{"version":3}', '{"version":2}']
    assert "record_changes" not in shared
