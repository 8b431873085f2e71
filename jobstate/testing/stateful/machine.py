"""The machine: everybody who uses a job service, in any order, on ports that go wrong."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar, cast

from jobstate.errors import IdempotencyConflictError, JobNotFoundError
from jobstate.extra import needs_extra
from jobstate.flows.many import BulkOutcome, Fate
from jobstate.model import AnyJob, Delivery, Event, JobError, JobStatus
from jobstate.policy import Policy, seconds
from jobstate.testing.stateful.answers import (
    Outcome,
    Told,
    check_answer,
    of_cancel,
    of_decision,
    of_give_back,
    of_retry,
    of_start,
    of_worker,
    when,
)
from jobstate.testing.stateful.faults import Fault
from jobstate.testing.stateful.look import RIVAL, Creation, Look, Model
from jobstate.testing.stateful.promises import ACTIVE, PROMISES, BrokenPromiseError, Promise, Seen, check
from jobstate.testing.stateful.service import Service

with needs_extra("testing"):
    from hypothesis import strategies as st
    from hypothesis.stateful import Bundle, RuleBasedStateMachine, multiple, precondition, rule

POLICY = Policy(
    ttl=timedelta(seconds=200),
    max_attempts=2,
    lease=timedelta(seconds=20),
    clock_skew=timedelta(seconds=2),
    backoff=timedelta(seconds=5),
    backoff_jitter=0,
    redispatch_after=timedelta(seconds=15),
    resend_window=timedelta(seconds=30),
    max_give_backs=1,
    cleanup_after=timedelta(seconds=30),
    forget_after=timedelta(seconds=50),
)
"""A policy whose moments lie near one another."""

ENDPOINT = "/v1/machine"
_ORGANIZATIONS = st.sampled_from(["org_a", "org_b"])
_ERROR = JobError(code="broken", message="it broke")
_PARTS = {"scan": b"a scan"}
_NOTHING = cast(Any, multiple())
_HELD = st.sampled_from([False, False, True])
_FAULTS = st.lists(st.none() | st.sampled_from(Fault), min_size=1, max_size=2)
_PORTS = st.sampled_from(["repository", "repository", "dispatcher", "artifacts"])
_SWEEPS = ("sweep", "sweep", "relay", "rescue", "expire", "cleanup", "forget")
_MOST = 4
"""Jobs that are there at once."""

_ROUNDS = 12
"""Rounds of time, sweep and work at the end, of which each job needs a few."""


class Machine(RuleBasedStateMachine):
    """What both colours have in common: the rules. Subclass `JobsMachine` or `AsyncJobsMachine`, not this.

    Attributes:
        policy: the policy of the jobs. Durations should be short and near one another, and the lease have an end.
        promises: what is looked at after every step.
    """

    policy: ClassVar[Policy] = POLICY
    promises: ClassVar[tuple[Promise, ...]] = PROMISES

    jobs = Bundle("jobs")
    deliveries = Bundle("deliveries")
    attempts = Bundle("attempts")

    def __init__(self) -> None:
        super().__init__()
        self._model = Model()
        self._seen = Look()
        self._inbox: list[Delivery] = []
        self._results: dict[str, object] = {}
        self._settled = False
        self._service = self._open()
        self._settle()

    def _open(self) -> Service:
        raise NotImplementedError

    def _close(self) -> None:
        raise NotImplementedError

    def _receive(self) -> list[Delivery]:
        raise NotImplementedError

    # Asking, and looking at what came of it

    def _settle(self) -> None:
        """Look at everything, and check the promises."""
        after = self._service.look(self._seen)
        self._model.known |= after.rows.keys()
        received = self._receive()
        self._model.taken |= self._service.take_dispatched() | {(delivery.job_id, delivery.run) for delivery in received}
        check(Seen(self._seen, after, self._model, self.policy), self.promises)
        self._inbox += received
        self._seen, self._settled = after, True

    def _command(
        self,
        job_id: str,
        events: set[Event],
        may: Callable[[AnyJob], Collection[Outcome]],
        method: Callable[..., Any],
        *args: Any,
        token: str | None = None,
        **kwargs: Any,
    ) -> tuple[Any, bool]:
        """Ask for something to be done to a job: the answer, which is true, and whether it was done."""
        before, self._settled = self._seen, False
        row = before.rows.get(job_id)
        answer, disturbed = self._service.ask_for_answer(method, *args, **kwargs)
        if events == {Event.START} and (disturbed or not isinstance(answer, Exception)):
            self._model.count_start(job_id, sure=not isinstance(answer, Exception))
        after = self._service.look(before)
        told = Told(job_id, events, when(False) if row is None else may(row), answer, disturbed, token)
        done = check_answer(told, before, after)
        self._settle()
        return answer, done

    def _face(self, job_id: str) -> Any:
        row = self._seen.rows.get(job_id)
        return self._service.jobs if row is None else self._service.jobs.for_organization(row.organization_id)

    # Rules: callers

    @precondition(lambda self: len(self._seen.rows) < _MOST)
    @rule(target=jobs, organization=_ORGANIZATIONS, key=st.sampled_from([None, "key"]), held=_HELD, parts=st.booleans())
    def create(self, organization: str, key: str | None, held: bool, parts: bool) -> Any:
        """Create a job; under a key that was used before, the same one."""
        made = Creation(len(self._model.creations), organization, key, held, _PARTS if parts else {})
        if key is not None:
            same = (old for old in self._model.creations.values() if (old.organization, old.key) == (organization, key))
            made = next(same, made)
        self._model.creations[made.number] = made
        before, self._settled = self._seen, False
        face = self._service.jobs.for_organization(organization)
        options = {"idempotency_key": key, "validating": made.held, "artifacts": made.parts or None}
        answer, disturbed = self._service.ask_for_answer(face.create, ENDPOINT, made.request, **options)
        self._settle()
        mine = [row.id for row in self._seen.rows.values() if self._is_of(row, made)]
        self._check_creation(made, answer, disturbed, mine, before)
        return multiple(*mine)

    def _is_of(self, row: AnyJob, made: Creation) -> bool:
        if made.key is not None:
            return (row.organization_id, row.idempotency_key) == (made.organization, made.key)
        return self._model.creation_of(row) is made

    def _check_creation(self, made: Creation, answer: Any, disturbed: bool, mine: list[str], before: Look) -> None:
        if not isinstance(answer, Exception):
            self._model.answered.add(answer.id)
        if isinstance(answer, Exception):
            wrong = None if disturbed else f"no port failed, and it raised {answer!r}"
        elif [answer.id] != mine:
            wrong = f"the answer is {answer.id}, stored are {mine}"
        else:
            row = self._seen.rows[answer.id]
            waits = row.status is JobStatus.VALIDATING and not made.held
            wrong = "it was said to be created, and waits for its artifacts" if waits else None
            fresh = answer.id not in before.rows and not disturbed
            if fresh and row.status is not (JobStatus.VALIDATING if made.held else JobStatus.QUEUED):
                wrong = f"a new job is {row.status}, held: {made.held}"
        if wrong:
            raise BrokenPromiseError(f"answers are truthful (P12, P13): creation {made.number}: {wrong}")

    @rule(job=jobs, verb=st.sampled_from(["accept", "accept", "cancel", "reject"]))
    def change(self, job: str, verb: str) -> None:
        """Cancel a job; or accept or reject one that its host holds, if the host was told that it is there and whole."""
        row, method = self._seen.rows.get(job), getattr(self._face(job), verb)
        if verb == "cancel":
            self._command(job, {Event.CANCEL}, of_cancel, method, job)
        elif row is None or (row.held and job in self._model.answered):
            arguments = (job,) if verb == "accept" else (job, _ERROR)
            self._command(job, {Event(verb)}, of_decision, method, *arguments)

    @rule(job=jobs, key=st.sampled_from([None, "again-1", "again-2"]))
    def retry(self, job: str, key: str | None) -> None:
        """Retry a job, with a key or without one."""
        records = self._seen.records.get(job, [])
        known = key is not None and any(record.changes.get("retry_key") == key for record in records)
        may = partial(of_retry, key=key, known=known)
        self._command(job, {Event.RETRY}, may, self._face(job).retry, job, retry_key=key)

    @precondition(lambda self: self._seen.rows)
    @rule(verb=st.sampled_from(["retry_many", "cancel_many"]), status=st.sampled_from(JobStatus))
    def change_many(self, verb: str, status: JobStatus) -> None:
        """Retry or cancel all jobs of a status."""
        before, self._settled = self._seen, False
        answer, disturbed = self._service.ask_for_answer(getattr(self._service.jobs, verb), status=status.value)
        self._settle()
        event = Event.RETRY if verb == "retry_many" else Event.CANCEL
        wrong = None if disturbed else f"no port failed, and it raised {answer!r}"
        if not isinstance(answer, Exception):
            wrong = self._wrong_of_many(event, cast("list[BulkOutcome]", answer), status, before)
        if wrong:
            raise BrokenPromiseError(f"bulk is the single command n times (P15): {verb}: {wrong}")

    def _wrong_of_many(self, event: Event, outcomes: list[BulkOutcome], status: JobStatus, before: Look) -> str | None:
        wanted = sorted(job_id for job_id, row in before.rows.items() if row.status is status)
        if sorted(outcome.job_id for outcome in outcomes) != wanted:
            return f"outcomes of {[outcome.job_id for outcome in outcomes]}, {status} are {wanted}"
        for outcome in outcomes:
            news = self._seen.since(before, outcome.job_id)
            done = any(record.event == event and record.actor != RIVAL for record in news)
            if outcome.fate is not Fate.UNKNOWN and done is not (outcome.fate is Fate.MOVED):
                return f"{outcome.job_id} is {outcome.fate}, and it was{' ' if done else ' not '}done"
        return None

    @rule(job=jobs)
    def read(self, job: str) -> None:
        """Retrieve, list and count, as its own organization and as another; and try its key for something else."""
        for organization in ("org_a", "org_b"):
            self._read(job, organization)
        row = self._seen.rows.get(job)
        if row is None or row.idempotency_key is None:
            return
        self._settled = False
        create, key = self._face(job).create, row.idempotency_key
        answer, disturbed = self._service.ask_for_answer(create, ENDPOINT, {"number": -1}, idempotency_key=key)
        self._settle()
        if not isinstance(answer, IdempotencyConflictError) and not disturbed:
            raise BrokenPromiseError(f"a key belongs to its first request (P13): {job}: {answer!r}")

    def _read(self, job: str, organization: str) -> None:
        row, ask, face = (
            self._seen.rows.get(job),
            self._service.ask_for_answer,
            self._service.jobs.for_organization(organization),
        )
        own = sorted(each.id for each in self._seen.rows.values() if each.organization_id == organization)
        (found, late), (page, late_too) = ask(face.retrieve, job), ask(face.list, order="asc", limit=1_000)
        if late or late_too:
            return
        if row is None or row.organization_id != organization:
            fine = isinstance(found, JobNotFoundError)
        else:
            fine = (found.version, found.status) == (row.version, row.status)
        if not fine:
            raise BrokenPromiseError(f"a job is its tenant's (P11, P23): {organization} asks for {job}: {found!r}")
        if [each.id for each in page.data] != own or ask(face.count) != (len(own), False):
            raise BrokenPromiseError(f"lists are whole and in order (P20, P23): {page.data}, own are {own}")

    # Rules: workers

    @precondition(lambda self: self._inbox)
    @rule(target=deliveries, number=st.integers(0, 3), lost=st.sampled_from([False, False, False, True]))
    def receive(self, number: int, lost: bool) -> Any:
        """A delivery arrives, in no order; or is lost."""
        delivery = self._inbox.pop(number % len(self._inbox))
        return _NOTHING if lost else delivery

    @precondition(lambda self: self._inbox)
    @rule(target=attempts, number=st.integers(0, 3))
    def start_next(self, number: int) -> Any:
        """A delivery arrives, and is started at once."""
        return self.start(self._inbox.pop(number % len(self._inbox)))

    @rule(target=attempts, delivery=deliveries)
    def start(self, delivery: Delivery) -> Any:
        """Begin an attempt: of a delivery that may be late, or have come before."""
        now = self._service.now
        may = partial(of_start, run=delivery.run, now=now)
        attempt, _ = self._command(delivery.job_id, {Event.START}, may, self._service.jobs.start, delivery)
        if isinstance(attempt, Exception):
            return _NOTHING
        self._promise_lease(attempt, now)
        numbers = self._model.numbers.setdefault(attempt.job_id, set())
        if attempt.number in numbers:
            raise BrokenPromiseError(f"an attempt's number is its own (P7): {attempt.job_id}: {attempt.number} again")
        numbers.add(attempt.number)
        return attempt

    def _promise_lease(self, attempt: Any, now: int) -> None:
        if self.policy.lease_seconds is not None:
            self._model.lease_ends[attempt.job_id] = (attempt.token, now + self.policy.lease_seconds)

    def _work(self, attempt: Any, events: set[Event], result: object, verb: str, *args: Any, **kwargs: Any) -> tuple[Any, bool]:
        same = result is None or self._results.get(attempt.token) == result
        may = partial(of_worker, token=attempt.token, same=same)
        method = getattr(attempt, verb)
        answer, done = self._command(attempt.job_id, events, may, method, *args, token=attempt.token, **kwargs)
        if done and result is not None:
            self._results[attempt.token] = result
        return answer, done

    @rule(attempt=attempts, progress=st.sampled_from([None, 0.5]))
    def heartbeat(self, attempt: Any, progress: float | None) -> None:
        """Stay alive."""
        now = self._service.now
        answer, done = self._work(attempt, {Event.HEARTBEAT}, None, "heartbeat", progress)
        if done and not isinstance(answer, Exception):
            self._promise_lease(attempt, now)

    @rule(attempt=attempts, result=st.integers(0, 1), parts=st.booleans())
    def complete(self, attempt: Any, result: int, parts: bool) -> None:
        """Bring a result, perhaps once more, perhaps another one."""
        artifacts = {f"page-{result}": b"a page"} if parts else None
        self._work(attempt, {Event.COMPLETE}, (result, parts), "complete", result, artifacts=artifacts)

    @rule(attempt=attempts, retryable=st.booleans())
    def fail(self, attempt: Any, retryable: bool) -> None:
        """Fail, for good or not."""
        events = {Event.RELEASE, Event.FAIL} if retryable else {Event.FAIL}
        self._work(attempt, events, "failed", "fail", _ERROR, retryable=retryable)

    @rule(attempt=attempts)
    def give_back(self, attempt: Any) -> None:
        """Stop in good order."""
        may = partial(of_give_back, token=attempt.token, policy=self.policy)
        self._command(attempt.job_id, {Event.GIVE_BACK}, may, attempt.give_back, token=attempt.token)

    # Rules: time, and what goes wrong

    @precondition(lambda self: self._seen.rows)
    @rule(step=st.sampled_from([0, 1, 6, 16, 22, 31, 100, 200, -1, -2]), which=st.none() | st.sampled_from(_SWEEPS))
    def pass_time(self, step: int, which: str | None) -> None:
        """The clock goes on, or steps back as far as clocks may differ; then a sweep may do what time asks."""
        if self._service.now + step >= self._service.latest - self.policy.skew_seconds:
            self._service.pass_time(step)
        if which is not None:
            self._sweep(which)

    def _sweep(self, which: str) -> None:
        self._settled = False
        answer, disturbed = self._service.ask_for_answer(getattr(self._service.jobs, which))
        self._settle()
        if isinstance(answer, Exception) and not disturbed:
            raise BrokenPromiseError(f"a sweep goes on (P18): no port failed, and {which} raised {answer!r}")

    @rule(port=_PORTS, faults=_FAULTS)
    def go_wrong(self, port: str, faults: list[Fault | None]) -> None:
        """The next calls of a port will go wrong."""
        self._service.ports[port].planned = list(faults)

    @precondition(lambda self: self._service.repository.landing)
    @rule(target=jobs)
    def land(self) -> Any:
        """Writes that were given up arrive after all."""
        before, self._settled = self._seen, False
        self._service.land()
        self._settle()
        return multiple(*(self._seen.rows.keys() - before.rows.keys()))

    # In the end

    def teardown(self) -> None:
        """Nothing goes wrong any more: every active job is run, and then everything expires and is cleaned."""
        try:
            if self._settled:
                self._service.calm_down()
                self._settle()
                self._run_all()
                self._clean_all()
        finally:
            self._close()

    def _run_all(self) -> None:
        """A job with time left comes to an end that is not its expiry; a worker that was lost is one more round."""
        step = max(self.policy.skew_seconds + (self.policy.lease_seconds or 0), seconds(self.policy.redispatch_after)) + 1
        enough = self._service.latest + 6 * step
        active = [row.id for row in self._rows(*ACTIVE) if row.expires_at > enough]
        for _ in range(5):
            self._service.pass_time(step)
            self._sweep("sweep")
            while self._inbox:
                attempt = self.start(self._inbox.pop())
                if hasattr(attempt, "token"):
                    self.complete(attempt, 0, False)
        if left := [row for row in self._rows(*ACTIVE, JobStatus.EXPIRED) if row.id in active]:
            raise BrokenPromiseError(f"a job with time left is run (P14, P22): {[(row.id, row.status.value) for row in left]}")

    def _clean_all(self) -> None:
        for _ in range(_ROUNDS):
            if not self._seen.parts and all(row.cleanup_completed_at is not None for row in self._seen.rows.values()):
                return
            self._service.pass_time(seconds(self.policy.ttl))
            self._sweep("sweep")
        left = [(row.id, row.status.value) for row in self._seen.rows.values()]
        raise BrokenPromiseError(f"everything expires and is cleaned (P9, P18): {left}, {list(self._seen.parts)} are left")

    def _rows(self, *statuses: JobStatus) -> list[AnyJob]:
        return [row for row in self._seen.rows.values() if row.status in statuses]
