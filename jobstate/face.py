"""What `Jobs` and `AsyncJobs` have in common: the checks of what comes in, and the flow for each operation. No colour."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from inspect import iscoroutinefunction
from typing import Any, Literal, Self, TypedDict, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from jobstate.drivers import Ports
from jobstate.effects import Flow
from jobstate.endpoint import Endpoint
from jobstate.errors import InvalidInputError, JobNotFoundError
from jobstate.flows import attempts, commands, many, reading, sweeps, taking
from jobstate.flows.many import BulkOutcome
from jobstate.flows.settle import Dispatching, Scope
from jobstate.flows.whole import is_degraded
from jobstate.lifecycle import Draft, Facts
from jobstate.model import JOB_ID, MAX_TIME, AnyJob, Delivery, Event, HistoryRecord, JobError, Name, Text
from jobstate.observe import Listeners
from jobstate.payload import check_artifacts, instance, invalid_input, json_object
from jobstate.policy import Policy
from jobstate.ports import offers
from jobstate.query import JobFilter, JobPage, PageRequest

R = TypeVar("R")

Order = Literal["asc", "desc"]
Time = int | datetime
"""Whole Unix seconds, or an aware datetime."""


class Filter(TypedDict, total=False):
    """Which jobs: all conditions given must hold.

    `created_from` is inclusive and `created_to` exclusive; `metadata` pairs must match exactly.
    """

    status: str | Iterable[str] | None
    endpoint: str | None
    ids: Iterable[str] | None
    created_from: Time | None
    created_to: Time | None
    metadata: Mapping[str, str] | None


class Creation(TypedDict, total=False):
    """What `create` takes besides endpoint and request.

    `organization_id` is needed on the unscoped face; `idempotency_key` belongs to its organization; `artifacts` are bytes by
    name, kept beside the request; `ttl` and `max_attempts` override the policy; `available_at` is the earliest start; with
    `validating` the job waits for `accept` or `reject`; `trace_context` is carried along; `actor` goes to the history.
    """

    organization_id: str | None
    metadata: Mapping[str, str] | None
    idempotency_key: str | None
    artifacts: Mapping[str, bytes] | None
    ttl: timedelta | None
    max_attempts: int | None
    available_at: Time | None
    validating: bool
    trace_context: Mapping[str, str] | None
    actor: str | None


_KEY: TypeAdapter[str] = TypeAdapter(Name)
_WORDS: TypeAdapter[str] = TypeAdapter(Text)


class Face:
    """What `Jobs` and `AsyncJobs` have in common: the ports, the scope, and the flow for each operation."""

    def __init__(self, ports: Ports, scope: Scope, endpoints: Mapping[str, Endpoint[Any, Any]]) -> None:
        self._ports = ports
        self._scope = scope
        self._endpoints = endpoints

    @property
    def policy(self) -> Policy:
        """The policy of these jobs."""
        return self._scope.policy

    @property
    def listeners(self) -> Listeners | None:
        """Who is told what is done; None when nobody is."""
        listeners: Listeners | None = self._ports.listeners
        return listeners

    @property
    def organization_id(self) -> str | None:
        """The organization that this face is scoped to; None for the trusted, unscoped one."""
        return self._scope.organization_id

    @property
    def endpoints(self) -> Mapping[str, Endpoint[Any, Any]]:
        """The endpoints by their names; empty when any name will do."""
        return self._endpoints

    def for_organization(self, organization_id: str) -> Self:
        """The same face for one organization: another's job is JobNotFoundError, and sweeps are refused."""
        own = self._scope.organization_id
        if own not in (None, organization_id):
            raise InvalidInputError("organization_id", f"this face belongs to {own!r}: start from the unscoped one")
        try:
            organization_id = _KEY.validate_python(organization_id)
        except ValidationError as error:
            raise invalid_input(error, "organization_id") from None
        return self._like(self._ports, replace(self._scope, organization_id=organization_id))

    def bind(self, transaction: Any) -> Self:
        """The same face within a transaction of the host's: its connection, or its ORM session.

        What it writes is committed or rolled back with the host's rows. A transactional dispatcher is called at once, and its
        error is raised, for the host to roll back; any other dispatch waits for the commit: then `dispatch` makes it at once,
        and the next sweep makes it otherwise. Observers are told nothing, since it may yet be rolled back. Raises
        TypeError for a repository that cannot write in another's transaction.
        """
        repository = self._ports.repository
        if not offers(repository, "bind"):
            name = type(repository).__name__
            raise TypeError(f"repository: {name} has no method 'bind': it cannot write in a transaction of the host's")
        dispatching = self._scope.dispatching
        within = dispatching if dispatching is Dispatching.WITHIN else Dispatching.NEVER
        ports = replace(self._ports, repository=repository.bind(transaction), listeners=None, gatherer=None)
        return self._like(ports, replace(self._scope, dispatching=within, bound=True))

    def _gathering(self, gatherer: Any) -> Self:
        """The same face, whose saves go to a gatherer."""
        return self._like(replace(self._ports, gatherer=gatherer), self._scope)

    def _like(self, ports: Ports, scope: Scope) -> Self:
        face = object.__new__(type(self))
        Face.__init__(face, ports, scope, self._endpoints)
        return face

    def _endpoint(self, endpoint: str | Endpoint[Any, Any]) -> Endpoint[Any, Any] | None:
        if isinstance(endpoint, Endpoint):
            return endpoint
        endpoint = instance("endpoint", endpoint, str)
        if self._endpoints and endpoint not in self._endpoints:
            raise InvalidInputError("endpoint", f"{endpoint!r} is unknown; known are {', '.join(self._endpoints)}")
        return self._endpoints.get(endpoint)

    def _create(self, endpoint: str | Endpoint[Any, Any], request: object, options: Creation) -> Flow[Any]:
        typed = self._endpoint(endpoint)
        organization_id = options.get("organization_id")
        if self._scope.organization_id is not None:
            if organization_id not in (None, self._scope.organization_id):
                raise InvalidInputError("organization_id", f"this face creates jobs of {self._scope.organization_id!r} only")
            organization_id = self._scope.organization_id
        _known(options, Creation)
        artifacts = check_artifacts("artifacts", options.get("artifacts"))
        if artifacts and self._scope.bound:
            raise InvalidInputError("artifacts", "a store cannot roll back: create the job outside of the transaction")
        if artifacts and not self._scope.has_artifacts:
            raise InvalidInputError("artifacts", "there is no artifact store: pass artifacts=... to the constructor")
        draft = Draft(
            organization_id=organization_id,
            endpoint=typed.name if typed else str.__str__(cast("str", endpoint)),
            request=typed.encode_request(request) if typed else json_object("request", request),
            metadata=options.get("metadata"),
            idempotency_key=options.get("idempotency_key"),
            trace_context=options.get("trace_context"),
            artifacts=artifacts,
            ttl=options.get("ttl"),
            max_attempts=options.get("max_attempts"),
            available_at=options.get("available_at"),
            held=instance("validating", options.get("validating", False), bool),
        )
        _check_words(actor=options.get("actor"))
        flow = commands.create(self._scope, draft, options.get("actor"))
        return self._narrowed(flow, endpoint if isinstance(endpoint, Endpoint) else None)

    def _narrowed(self, flow: Flow[AnyJob], endpoint: Endpoint[Any, Any] | None) -> Flow[AnyJob]:
        job = reading.as_shown((yield from flow))
        if endpoint is None:
            return job
        try:
            return endpoint.narrow(job)
        except InvalidInputError:
            if not is_degraded(job):
                raise
            return endpoint.dress(job, None)  # the references are not of its type: the warning says what is missing

    def _change(
        self,
        event: Event,
        job_id: str,
        facts: Facts,
        actor: str | None,
        reason: str | None,
        include_request: bool = False,
    ) -> Flow[AnyJob]:
        _check_words(actor=actor, reason=reason)
        flow = commands.change(
            self._scope,
            _job_id(job_id),
            event,
            facts,
            actor=actor,
            reason=reason,
            include_request=include_request,
        )
        return self._narrowed(flow, None)

    def _reject(self, job_id: str, error: JobError, actor: str | None, reason: str | None) -> Flow[AnyJob]:
        return self._change(Event.REJECT, job_id, {"error": instance("error", error, JobError)}, actor, reason)

    def _retry(
        self, job_id: str, retry_key: str | None, actor: str | None, reason: str | None, include_request: bool
    ) -> Flow[AnyJob]:
        try:
            key = None if retry_key is None else _KEY.validate_python(retry_key)
        except ValidationError as error:
            raise invalid_input(error, "retry_key") from None
        return self._change(Event.RETRY, job_id, {"retry_key": key}, actor, reason, include_request)

    def _retrieve(
        self, job_id: str, endpoint: Endpoint[Any, Any] | None, include_request: bool, include_response: bool
    ) -> Flow[Any]:
        if endpoint is not None:
            instance("endpoint", endpoint, Endpoint)
        for name, asked in (("include_request", include_request), ("include_response", include_response)):
            instance(name, asked, bool)
        job_id = _job_id(job_id)
        flow = reading.retrieve(self._scope, job_id, include_request=include_request, include_response=include_response)
        return self._narrowed(flow, endpoint)

    def _history(self, job_id: str, after_version: int) -> Flow[list[HistoryRecord]]:
        if type(after_version) is not int or not 0 <= after_version <= MAX_TIME:
            raise InvalidInputError("after_version", f"a version (a whole number from 0) is needed, not {after_version!r}")
        return reading.history(self._scope, _job_id(job_id), after_version)

    def _filter(self, conditions: Filter) -> JobFilter:
        _known(conditions, Filter)
        asked: dict[str, Any] = dict(conditions)
        for plural, name in (("statuses", "status"), ("ids", "ids")):
            value = asked.pop(name, None)
            asked[plural] = (value,) if isinstance(value, str) else value
        try:
            return JobFilter(organization_id=self._scope.organization_id, **asked)
        except ValidationError as error:
            fault = invalid_input(error)
            field = "status" if fault.field.startswith("statuses") else fault.field
            raise InvalidInputError(field, fault.problem) from None

    def _list(
        self,
        conditions: Filter,
        limit: int,
        after: str | None,
        before: str | None,
        order: Order,
        include_request: bool,
        include_response: bool,
    ) -> Flow[JobPage[Any, Any]]:
        if order not in ("asc", "desc"):
            raise InvalidInputError("order", f"'asc' or 'desc' is needed, not {order!r}")
        return reading.list_jobs(
            self._scope,
            self._filter(conditions),
            PageRequest(limit, _cursor("after", after), _cursor("before", before), order == "desc"),
            include_request=include_request,
            include_response=include_response,
        )

    def _dispatch(self, job_id: str) -> Flow[AnyJob]:
        if self._scope.bound:
            raise InvalidInputError("transaction", "dispatch waits for the commit: call it on the face that is not bound")
        return commands.dispatch(self._scope, _job_id(job_id))

    def _many(
        self, event: Event, conditions: Filter, dry_run: bool, actor: str | None, reason: str | None
    ) -> Flow[list[BulkOutcome]]:
        _check_words(actor=actor, reason=reason)
        instance("dry_run", dry_run, bool)
        if self._scope.bound:
            raise InvalidInputError("transaction", "a bulk command commits job by job: call it on the face that is not bound")
        return many.change_many(self._scope, event, self._filter(conditions), dry_run=dry_run, actor=actor, reason=reason)

    def _start(self, delivery: Delivery, endpoint: Endpoint[Any, Any] | None, include_request: bool) -> Flow[attempts.Hold]:
        _job_id(instance("delivery", delivery, Delivery).job_id)
        check = attempts.anything if endpoint is None else endpoint.check
        return attempts.start(self._scope, delivery, check, include_request=include_request)

    def _take(self, limit: int) -> Flow[list[attempts.Hold]]:
        if type(limit) is not int or not 1 <= limit <= sweeps.PAGE:
            raise InvalidInputError("limit", f"a whole number from 1 to {sweeps.PAGE} is needed, not {limit!r}")
        scope = self._trusted()
        if scope.dispatching is not Dispatching.NEVER:
            raise InvalidInputError("dispatcher", "it carries the jobs: Jobs without one takes them from the repository")
        return taking.take(scope, limit)

    def _trusted(self) -> Scope:
        if self._scope.organization_id is not None:
            raise InvalidInputError("organization_id", "sweeps run for all organizations: call them on the unscoped face")
        if self._scope.bound:
            raise InvalidInputError("transaction", "a sweep commits page by page: call it on the face that is not bound")
        return self._scope


def _job_id(job_id: str) -> str:
    """An id that no job can have is refused before any store sees it, as one that no job has."""
    if not JOB_ID.fullmatch(instance("job_id", job_id, str)):
        raise JobNotFoundError(job_id)
    return job_id


def _cursor(field: str, job_id: str | None) -> str | None:
    if job_id is not None and not JOB_ID.fullmatch(instance(field, job_id, str)):
        raise InvalidInputError(field, f"a job's id is needed ('job_' and 21 letters, digits, '_' or '-'), not {job_id[:80]!r}")
    return job_id


def _check_words(**words: str | None) -> None:
    for name, value in words.items():
        if value is None:
            continue
        try:
            _WORDS.validate_python(value)
        except ValidationError as error:
            raise invalid_input(error, name) from None


def _known(options: Mapping[str, object], kind: type) -> None:
    if unknown := options.keys() - kind.__annotations__.keys():
        raise TypeError(f"unknown argument {', '.join(sorted(unknown))}; known are {', '.join(kind.__annotations__)}")


def make_scope(policy: Policy | None, repository: object, dispatcher: Any, artifacts: object) -> Scope:
    """The scope of an unscoped face with these ports."""
    policy = Policy() if policy is None else instance("policy", policy, Policy)
    if policy.inline_limit is not None and artifacts is None:
        raise InvalidInputError("policy.inline_limit", "there is no artifact store to put parts in: pass artifacts=...")
    dispatching = Dispatching.NEVER
    if dispatcher is not None:
        dispatching = Dispatching.WITHIN if dispatcher.transactional else Dispatching.AFTER
    shares, delays = offers(repository, "move_due"), offers(dispatcher, "dispatch_at")
    return Scope(policy, None, dispatching, artifacts is not None, shares, delays)


def announced(repository: Any, dispatcher: object) -> Any:
    """The repository of a face: one that tells of new jobs, if it can, where no dispatcher carries them."""
    return repository.announcing() if dispatcher is None and offers(repository, "announcing") else repository


def by_name(endpoints: Iterable[Endpoint[Any, Any]]) -> dict[str, Endpoint[Any, Any]]:
    """Endpoints by their names."""
    return {instance("endpoints", endpoint, Endpoint).name: endpoint for endpoint in endpoints}


def check_colour(face: str, other: str, wanted: bool, **ports: object) -> None:
    """A port of the wrong colour is found before it is used."""
    methods = {"repository": "load", "dispatcher": "dispatch", "artifacts": "put", "clock": "now"}
    for name, port in ports.items():
        if port is None and name != "repository":
            continue
        method = getattr(port, methods[name], None)
        if method is None:
            raise TypeError(f"{name}: {type(port).__name__} has no method {methods[name]!r}: it is no {name}")
        if name != "clock" and iscoroutinefunction(method) is not wanted:
            kind = "async" if wanted else "sync"
            raise TypeError(f"{name}: {face} needs a port with {kind} methods, {type(port).__name__} is not: use {other}")
