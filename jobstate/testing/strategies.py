"""Hypothesis strategies for policies, events, histories and jobs, drawn from the compiled table.

A job is never made up: it is the end of a history, and every step of a history was answered by `decide`. So there is no drawn
job that the lifecycle cannot reach. What is decided while drawing does not count for the coverage of the table.

Values are small and times are round, and the first choice is the plain one, so that what is found shrinks to few plain steps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple, TypedDict, TypeVar, Unpack, cast, get_args, overload

from pydantic_core import to_jsonable_python

from jobstate.endpoint import Endpoint
from jobstate.extra import needs_extra
from jobstate.lifecycle import TABLE, Accepted, Decision, Draft, Facts, Refused, apply, decide, new_job
from jobstate.lifecycle.decision import NEEDS, _best_facts
from jobstate.model import (
    AnyJob,
    Event,
    Job,
    JobError,
    JobResponse,
    JobStatus,
    JobWarning,
    RequestT,
    ResponseT,
)
from jobstate.payload import artifact_prefix, describe_artifacts
from jobstate.policy import Policy
from jobstate.testing.history import Asked, JobHistory, Step
from jobstate.testing.table_coverage import unrecorded

with needs_extra("testing"):
    from hypothesis import reject
    from hypothesis import strategies as st

J = TypeVar("J", bound=AnyJob)
Draw = Callable[[st.SearchStrategy[Any]], Any]

BEGIN = 1_000_000
"""When drawn jobs are created (Unix seconds)."""

_STEPS = 40
"""The most steps of a history, what leads to a wanted status not counted."""

_PAUSES: Final = (0, 1, 10, 60, 600, -1, -60)
"""Seconds from the first moment at which something can happen to the moment at which it does; a clock may step back."""


def _duration(*seconds: int) -> st.SearchStrategy[timedelta]:
    return st.sampled_from([timedelta(seconds=each) for each in seconds])


def policies() -> st.SearchStrategy[Policy]:
    """Policies with every option in use; durations are short, so that their ends lie near one another."""
    return st.builds(
        Policy,
        ttl=_duration(1_000, 1, 60, 5_000),
        max_attempts=st.integers(1, 3),
        lease=st.sampled_from([timedelta(seconds=60), timedelta(seconds=1), timedelta(seconds=5), None]),
        clock_skew=_duration(1, 20),
        backoff=_duration(0, 10),
        backoff_cap=_duration(0, 60),
        backoff_jitter=st.sampled_from([0.0, 0.2, 1.0]),
        max_give_backs=st.integers(0, 2),
        redispatch_after=_duration(60, 1),
        resend_window=_duration(0, 60),
        keep_for=st.none() | _duration(1, 3_000),
        cleanup_after=_duration(0, 600),
        forget_after=st.none() | _duration(0, 600),
    )


def events(status: JobStatus | str | None = None) -> st.SearchStrategy[Event]:
    """Events; with a status, those for which the table has a row from there, whatever its guards say. Raises ValueError."""
    source = None if status is None else _status(status)
    return st.sampled_from([event for event in Event if source is None or (event, source) in TABLE])


def _status(value: object) -> JobStatus:
    try:
        return JobStatus(cast(str, value))
    except ValueError:
        raise ValueError(f"status: {value!r} is none; there are {', '.join(JobStatus)}") from None


def _statuses(value: object) -> tuple[JobStatus, ...]:
    """One status or several, as statuses, in their own order: a set has another one in each process."""
    if isinstance(value, str) or not isinstance(value, Collection):
        return (_status(value),)
    if not value:
        raise ValueError("status: an empty collection leaves no job to draw; leave status out for any")
    wanted = {_status(each) for each in cast("Collection[object]", value)}
    return tuple(status for status in JobStatus if status in wanted)


class _Payloads(NamedTuple):
    """How the parts of a job that are the host's are drawn."""

    kind: type[AnyJob]
    endpoint: st.SearchStrategy[str]
    request: st.SearchStrategy[Any]
    body: st.SearchStrategy[Any]
    response: type[JobResponse[Any]]


_ANYTHING: st.SearchStrategy[Any] = st.sampled_from([None, 1, "é", {"a": [1, 2.5]}])
_OBJECTS: st.SearchStrategy[Any] = st.sampled_from([{}, {"n": 1}, {"text": ["é", None]}])


def _payloads(kind: type[AnyJob] | Endpoint[Any, Any], drawing: Drawing) -> _Payloads:
    cls = kind.job_type if isinstance(kind, Endpoint) else kind
    given = cast(object, cls)
    if not (isinstance(given, type) and issubclass(given, Job)):
        raise TypeError(f"kind: {given!r} is neither Job, nor a subclass of it, nor an Endpoint")
    endpoint, request = cls.model_fields["endpoint"].annotation, cls.model_fields["request"].annotation
    names: st.SearchStrategy[str] = st.sampled_from(["/v1/a", "/v1/b"])
    if isinstance(kind, Endpoint):
        names = st.just(kind.name)
    elif isinstance(endpoint, type) and endpoint is not str:
        names = st.from_type(cast("type[str]", endpoint))
    response = _inner(cls.model_fields["response"].annotation)
    requests = _OBJECTS if request == Job.model_fields["request"].annotation else st.from_type(_inner(request))
    bodies = _body(response.model_fields["body"].annotation)
    payloads = _Payloads(cls, names, drawing.get("request", requests), drawing.get("response", bodies), response)
    payloads.request.validate()  # types are looked up now, once, not while an example is drawn
    payloads.body.validate()
    return payloads


def _inner(annotation: Any) -> Any:
    """The type that may be None, without None."""
    return next(kind for kind in get_args(annotation) if kind is not type(None))


def _body(annotation: Any) -> st.SearchStrategy[Any]:
    return _ANYTHING if annotation is Any or isinstance(annotation, TypeVar) else st.from_type(annotation)


# One step


def _decide(job: AnyJob, asked: Asked, policy: Policy, operation: str = "") -> Decision:
    """Drawing is no test of the table: its decisions are not recorded."""
    with unrecorded():
        return decide(job, asked.event, asked.now, policy=policy, operation=operation, **asked.facts)


_MAY: Final[dict[Event, tuple[str, ...]]] = {
    Event.HEARTBEAT: ("progress", "warnings"),
    Event.COMPLETE: ("response_artifacts", "warnings"),
    Event.FAIL: ("warnings",),
    Event.RETRY: ("retry_key",),
}
"""The facts that an event may bring besides those that it needs."""


_HASTY: Final[tuple[Event, ...]] = (
    Event.REJECT,
    Event.CANCEL,
    Event.EXPIRE,
    Event.BEGIN_CLEANUP,
    Event.DISPATCHED,
    Event.DELAYED,
)
"""Events that are legal often, and after which little is."""


_ENDS: Final = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED)

_SLOW: Final = (Event.RELEASE, Event.RESCUE)
"""Events that lead on, but have to wait or are waited for."""


def _lease(number: int) -> str:
    return f"lease-{number}"


_DRAWN: Final[dict[str, st.SearchStrategy[Any]]] = {
    "digest": st.sampled_from(["digest-1", "digest-2"]),
    "error": st.sampled_from([JobError(code="broken", message=""), JobError(code="lost", message="é", details={"k": 1})]),
    "failure_code": st.sampled_from(["broken", "slow"]),
    "progress": st.sampled_from([0.0, 0.5, 1.0]),
    "warnings": st.sampled_from([(), (JobWarning(code="blurred", message=""),)]),
}


def _honest(draw: Draw, name: str, event: Event, job: AnyJob, payloads: _Payloads) -> Any:
    """A fact as an honest caller has it. A start's token and a retry's key are new."""
    match name:
        case "token":
            return _lease(job.attempt_count + 1) if event is Event.START else job.lease and job.lease.token
        case "run":
            return job.run
        case "task_name":
            return f"{job.id}-{job.run}-{job.dispatch_count + 1}"
        case "response":
            return payloads.response.model_validate({"status_code": 200, "body": draw(payloads.body)})
        case "response_artifacts":
            parts = describe_artifacts(artifact_prefix(job.id, job.attempt_count), {"out": b"out"})
            return parts if draw(st.booleans()) else None
        case "retry_key":
            return f"key-{job.run}" if draw(st.booleans()) else None
        case _:
            return draw(_DRAWN[name])


def _dishonest(draw: Draw, name: str, event: Event, job: AnyJob, payloads: _Payloads) -> Any:
    """The same of callers that are late, lost, or repeat themselves."""
    match name:
        case "token":
            own = [job.lease.token] if job.lease else []
            return draw(st.sampled_from([*own, _lease(job.attempt_count + 1), _lease(1), "lease-of-nobody"]))
        case "run":
            return draw(st.sampled_from([job.run, max(0, job.run - 1), job.run + 1]))
        case "retry_key":
            return draw(st.sampled_from([None, job.retry_key, "key-1", f"key-{job.run}"]))
        case _:
            return _honest(draw, name, event, job, payloads)


def _draw_facts(draw: Draw, event: Event, job: AnyJob, payloads: _Payloads, fact: Callable[..., Any]) -> Facts:
    names = (*NEEDS.get(event, ()), *_MAY.get(event, ()))
    return cast(Facts, {name: fact(draw, name, event, job, payloads) for name in names})


def _plain_facts(event: Event, job: AnyJob) -> Facts:
    """Right facts without a choice."""
    facts = {name: value for name, value in _best_facts(job).items() if name in NEEDS.get(event, ())}
    if event is Event.START:
        facts["token"] = _lease(job.attempt_count + 1)
    if event is Event.RETRY:
        facts["retry_key"] = f"key-{job.run}"
    return cast(Facts, facts)


def _once_accepted(job: AnyJob, asked: Asked, policy: Policy) -> Asked | None:
    """The same as soon as it is accepted, as its refusals say; None when waiting does not help."""
    while isinstance(answer := _decide(job, asked, policy), Refused):
        if answer.wait_until is None or answer.wait_until <= asked.now:
            return None
        asked = Asked(asked.event, answer.wait_until, asked.facts)
    return asked if isinstance(answer, Accepted) else None


def _possible(job: AnyJob, policy: Policy) -> dict[Event, JobStatus]:
    """The events that are accepted now or after waiting, and where each leads then; first those that lead on, and soon."""
    found: dict[Event, JobStatus] = {}
    for event in Event:
        if (event, job.status) in TABLE:
            asked = _once_accepted(job, Asked(event, job.updated_at, _plain_facts(event, job)), policy)
            if asked is not None and isinstance(answer := _decide(job, asked, policy), Accepted):
                found[event] = answer.target
    return dict(sorted(found.items(), key=lambda move: (move[1] is job.status, move[1] in _ENDS, move[0] in _SLOW)))


_QUESTIONS = st.sampled_from([*Event, Event.HEARTBEAT, Event.COMPLETE, Event.FAIL])  # those that may be repetitions, more often
_POLICIES = policies()


@st.composite
def _legal(draw: Draw, job: AnyJob, events: list[Event], policy: Policy, payloads: _Payloads) -> Asked:
    """One of these events, with right facts, at a time when it is accepted."""
    event: Event = draw(st.sampled_from(events))
    facts = _draw_facts(draw, event, job, payloads, _honest)
    asked = _once_accepted(job, Asked(event, job.updated_at, facts), policy)
    if asked is None:  # a retry without a key, taken for a repetition
        asked = _once_accepted(job, Asked(event, job.updated_at, _plain_facts(event, job)), policy)
    assert asked is not None, event
    pause = draw(st.sampled_from(_PAUSES))
    later = Asked(event, max(0, asked.now + pause), asked.facts)
    return later if isinstance(_decide(job, later, policy), Accepted) else asked


@st.composite
def _questions(draw: Draw, walk: _Walk) -> Asked:
    """Anything that may be asked of a job: right or wrong, early or late, new or the last thing again."""
    job, policy = walk.job, walk.policy
    event: Event = draw(_QUESTIONS)
    facts = _draw_facts(draw, event, job, walk.payloads, _dishonest)
    if walk.steps and draw(st.integers(0, 3)) == 3:
        event, facts = walk.steps[-1].asked.event, cast(Facts, {**walk.steps[-1].asked.facts})
    if event is Event.RETRY:
        facts["past_retry_keys"] = walk.keys
    answer = _decide(job, Asked(event, job.updated_at, facts), policy)
    waits = [answer.wait_until] if isinstance(answer, Refused) and answer.wait_until is not None else []
    edges = [moment + step for moment in (*waits, job.expires_at) for step in (0, -1, 1)]
    times = [job.updated_at + pause for pause in _PAUSES] + edges
    return Asked(event, max(0, draw(st.sampled_from(times))), facts)


# Histories


@st.composite
def _creations(draw: Draw, payloads: _Payloads, policy: Policy, held: bool) -> AnyJob:
    request = draw(payloads.request)
    endpoint: str = draw(payloads.endpoint)
    available = draw(st.sampled_from([None, BEGIN + 10]))
    draft = Draft(
        organization_id=draw(st.sampled_from(["org_a", "org_b"])),
        endpoint=endpoint,
        request=to_jsonable_python(request, by_alias=True),
        metadata=draw(st.sampled_from([{}, {"batch": "b-1"}])),
        idempotency_key=draw(st.sampled_from([None, "inv-17"])),
        artifacts=draw(st.sampled_from([dict[str, bytes](), {"scan": b"scan"}])),
        available_at=available,
        held=held or draw(st.booleans()),
    )
    job_id = f"job_{draw(st.integers(0, 9)):021d}"
    job = new_job(draft, job_id=job_id, now=BEGIN, operation="op-0", policy=policy)
    return payloads.kind.model_validate({**job.__dict__, "endpoint": endpoint, "request": request})


class _Walk:
    """A history in the making."""

    def __init__(self, draw: Draw, policy: Policy, first: AnyJob, payloads: _Payloads) -> None:
        self.draw = draw
        self.policy = policy
        self.first = first
        self.payloads = payloads
        self.steps: list[Step[AnyJob]] = []

    @property
    def job(self) -> AnyJob:
        return self.steps[-1].after if self.steps else self.first

    @property
    def keys(self) -> frozenset[str]:
        accepted = (step.after.retry_key for step in self.steps if step.asked.event is Event.RETRY)
        return frozenset(key for key in accepted if key is not None)

    def ask(self, asked: Asked) -> Decision:
        """Take a step."""
        job = self.job
        decision = _decide(job, asked, self.policy, f"op-{len(self.steps) + 1}")
        after = apply(job, decision) if isinstance(decision, Accepted) else job
        self.steps.append(Step(job, asked, decision, after))
        return decision

    def wander(self, asides: bool) -> None:
        """Take legal steps, with asides between them, until the draw says that it is enough, or nothing leads on."""
        while len(self.steps) < _STEPS and self.draw(st.integers(0, 11)) > 0:
            if asides and self.draw(st.booleans()):
                self.ask(self.draw(_questions(self)))
            elif options := self._options():
                self.ask(self.draw(_legal(self.job, options, self.policy, self.payloads)))

    def _options(self) -> list[Event]:
        """What is possible; mostly no end before there was an attempt, and no expiry at all, so that walks go far."""
        options = list(_possible(self.job, self.policy))
        return options if self.draw(st.integers(0, 3)) == 0 else [event for event in options if event not in _HASTY]

    def lead_to(self, goal: JobStatus) -> None:
        """Go on to this status by the shortest way there is; back, as far as no way leads there."""
        for _ in range(2 * _STEPS):
            if self.job.status is goal:
                return
            moves = {
                event: target for event, target in _possible(self.job, self.policy).items() if target is not self.job.status
            }
            nearest = min((_distance(target, goal) for target in moves.values()), default=_NO_WAY)
            if nearest < _NO_WAY:
                options = [event for event, target in moves.items() if _distance(target, goal) == nearest]
                self.ask(self.draw(_legal(self.job, options, self.policy, self.payloads)))
            elif self.steps:
                self.steps.pop()
            else:
                break
        reject()

    def end_refused(self) -> None:
        """Ask what is refused."""
        if isinstance(self.ask(self.draw(_questions(self))), Refused):
            return
        self.steps.pop()
        reject()


def _distances() -> dict[tuple[JobStatus, JobStatus], int]:
    """How many events lie between two statuses at least, guards aside: all that the table connects."""
    known = {(status, status): 0 for status in JobStatus}
    for _ in JobStatus:
        for row in (row for rows in TABLE.values() for row in rows):
            for goal in JobStatus:
                if (row.target, goal) in known:
                    way = known[row.target, goal] + 1
                    known[row.source, goal] = min(known.get((row.source, goal), way), way)
    return known


_DISTANCES: Final = _distances()
_NO_WAY: Final = len(JobStatus)


def _distance(status: JobStatus, goal: JobStatus) -> int:
    return _DISTANCES.get((status, goal), _NO_WAY)


@st.composite
def _histories(
    draw: Draw,
    payloads: _Payloads,
    policy: st.SearchStrategy[Policy],
    goals: Sequence[JobStatus | None],
    asides: bool,
    refused: bool,
) -> JobHistory[AnyJob]:
    chosen, goal = draw(policy), draw(st.sampled_from(goals))
    first = draw(_creations(payloads, chosen, held=goal is JobStatus.VALIDATING))
    walk = _Walk(draw, chosen, first, payloads)
    if not draw(st.booleans()) and goal is not first.status is JobStatus.VALIDATING:  # most begin in the queue
        _ = walk.ask(Asked(Event.ACCEPT, BEGIN, {}))
    walk.wander(asides)
    if goal is not None:
        walk.lead_to(goal)
    if refused:
        walk.end_refused()
    return JobHistory(chosen, first, tuple(walk.steps))


class Drawing(TypedDict, total=False):
    """What may be said about the jobs that are drawn.

    `policy` draws the policies that they live under; `status` is where they end, one or several, each as often (any, if it is
    left out); `request` and `response` draw a request and a response's body, where Hypothesis cannot tell from the types how.
    """

    policy: st.SearchStrategy[Policy]
    status: JobStatus | str | Collection[JobStatus | str]
    request: st.SearchStrategy[Any]
    response: st.SearchStrategy[Any]


_ANY: Final = (None, *JobStatus)
"""Where histories end: first, to which they shrink, wherever the walk does; and each status as often."""


def _check_drawing(drawing: Drawing) -> None:
    for name, value in drawing.items():
        if name not in Drawing.__annotations__:
            known = ", ".join(sorted(Drawing.__annotations__))
            raise TypeError(f"{name}: nothing of this name can be said about drawn jobs; known are {known}")
        if name != "status" and not isinstance(value, st.SearchStrategy):
            raise TypeError(f"{name}: expected a strategy, and it is {value!r}; one value is hypothesis.strategies.just(...)")


@overload
def histories(*, refused: bool = ..., asides: bool = ..., **drawing: Unpack[Drawing]) -> st.SearchStrategy[JobHistory[Job]]: ...
@overload
def histories(
    kind: Endpoint[RequestT, ResponseT], *, refused: bool = ..., asides: bool = ..., **drawing: Unpack[Drawing]
) -> st.SearchStrategy[JobHistory[Job[RequestT, ResponseT]]]: ...
@overload
def histories(
    kind: type[J], *, refused: bool = ..., asides: bool = ..., **drawing: Unpack[Drawing]
) -> st.SearchStrategy[JobHistory[J]]: ...
def histories(
    kind: type[AnyJob] | Endpoint[Any, Any] = Job,
    *,
    refused: bool = False,
    asides: bool = False,
    **drawing: Unpack[Drawing],
) -> st.SearchStrategy[JobHistory[Any]]:
    """Histories of one job, each step of which the lifecycle accepted, at times that it allows.

    With `refused` they end with one more event, which is refused (`JobHistory.refusal`); with `asides` questions stand among
    the steps that move nothing: illegal events, wrong tokens and runs, repetitions.

    `kind` is a host's narrowed `Job[Request, Response]`, a subclass of it, or an `Endpoint`: its models are drawn with
    `hypothesis.strategies.from_type`, unless `request` and `response` are given.

    Raises TypeError for another kind, an unknown name, and a value where a strategy draws; ValueError for an unknown status.
    """
    _check_drawing(drawing)
    goals = _statuses(drawing["status"]) if "status" in drawing else _ANY
    return _histories(_payloads(kind, drawing), drawing.get("policy", _POLICIES), goals, asides, refused)


@overload
def jobs(**drawing: Unpack[Drawing]) -> st.SearchStrategy[Job]: ...
@overload
def jobs(kind: Endpoint[RequestT, ResponseT], **drawing: Unpack[Drawing]) -> st.SearchStrategy[Job[RequestT, ResponseT]]: ...
@overload
def jobs(kind: type[J], **drawing: Unpack[Drawing]) -> st.SearchStrategy[J]: ...
def jobs(kind: type[AnyJob] | Endpoint[Any, Any] = Job, **drawing: Unpack[Drawing]) -> st.SearchStrategy[Any]:
    """Jobs that the lifecycle can reach: the ends of `histories`, whose arguments these are."""
    return histories(cast("type[AnyJob]", kind), **drawing).map(lambda history: history.job)
