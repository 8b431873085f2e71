"""What a host may listen to: transitions, refusals, deliveries, sweeps, and the spans of operations and attempts.

An observer is told what was certainly done, after it was done and outside of any transaction. What it raises breaks nothing.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from threading import Lock
from typing import Any, TypeVar

from jobstate import effects as fx
from jobstate.effects import Flow
from jobstate.errors import OutcomeUnknownError, TransitionError
from jobstate.flows.sweeps import SweepError, SweepReport, Swept
from jobstate.lifecycle import Accepted
from jobstate.model import AnyJob, Delivery

R = TypeVar("R")

logger = logging.getLogger("jobstate.observe")


class Observer:
    """Does nothing. Override what you want to hear of; every method may be called by several threads at once."""

    def created(self, job: AnyJob) -> None:
        """A new job was stored; one that was there already is not told."""

    def transition(self, transition: Accepted) -> None:
        """A transition was saved, by a command, a bulk command or a sweep; heartbeats and dispatch marks are among them."""

    def refused(self, error: TransitionError) -> None:
        """A command on one job was refused. The refusals of a bulk command stand in its outcomes only."""

    def delivery(self, delivery: Delivery, fate: str, reason: str | None) -> None:
        """A delivery was run to its end, dropped or returned: the fields of its `RunResult`."""

    def swept(self, kind: str, swept: Swept) -> None:
        """One sweep was made: expire, rescue, cleanup, forget or relay. One that raised is not told; what it moved is."""

    def operation(self, name: str) -> AbstractContextManager[object]:
        """Entered around each operation of `Jobs` and of an attempt, by the name of its method."""
        return nullcontext()

    def attempt(self, job: AnyJob, number: int) -> AbstractContextManager[object]:
        """Entered around the handler and the telling of its result; `job.trace_context` is what its creator gave."""
        return nullcontext()


class Listeners:
    """Some observers. What one raises is logged, once for each of its methods, and goes no further."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)
        self._faulty: set[tuple[int, str]] = set()

    def tell(self, method: str, *arguments: object) -> None:
        """Call a method of each."""
        for observer in self._observers:
            try:
                getattr(observer, method)(*arguments)
            except Exception:
                self._log(observer, method)

    def _log(self, observer: Observer, method: str) -> None:
        fault = (id(observer), method)
        if fault not in self._faulty:
            self._faulty.add(fault)
            words = {"observer": type(observer).__name__, "method": method}
            logger.exception("%s.%s raised; it is not told again", *words.values(), extra={"jobstate": words})

    @contextmanager
    def around(self, method: str, *arguments: object) -> Generator[None]:
        """Within the context manager of each, which sees the exception that ends it and cannot stop it."""
        exits: list[tuple[Observer, Callable[..., object]]] = []
        for observer in self._observers:
            try:
                manager = getattr(observer, method)(*arguments)
                manager.__enter__()
                exits.append((observer, manager.__exit__))
            except Exception:
                self._log(observer, method)
        with ExitStack() as stack:
            for observer, leave in exits:
                stack.push(self._leaving(observer, leave, method))
            yield

    def _leaving(self, observer: Observer, leave: Callable[..., object], method: str) -> Callable[..., bool]:
        def safely(*raised: object) -> bool:
            try:
                leave(*raised)
            except Exception:
                self._log(observer, method)
            return False

        return safely


def listening(observers: Iterable[Observer]) -> Listeners | None:
    """Some observers; None when there is none, so that nothing is paid for. Raises TypeError for what is no Observer."""
    found = tuple(observers)
    for observer in found:
        if not isinstance(observer, Observer):  # pyright: ignore[reportUnnecessaryIsInstance]  # it comes from outside
            raise TypeError(f"observers: {type(observer).__name__} is no jobstate.observe.Observer")
    return Listeners(found) if found else None


def observed(flow: Flow[R], listeners: Listeners, name: str) -> Flow[R]:
    """The same flow, effect by effect; what its writes did, and how it ends, is told."""
    ear = _Ear(listeners)
    try:
        effect = next(flow)
        while True:
            try:
                answer = yield effect
            except Exception as error:
                ear.doubt(effect, error)
                effect = flow.throw(error)
            else:
                ear.hear(effect, answer)
                effect = flow.send(answer)
    except StopIteration as stop:
        ear.end(name, stop.value)
        result: R = stop.value
        return result
    except TransitionError as refusal:
        listeners.tell("refused", refusal)
        raise
    except SweepError as error:
        ear.swept(error.made)
        raise
    finally:
        flow.close()


class _Ear:
    """Hears a flow's effects. A save whose answer was lost is told once its operation is found in the row, or the history."""

    def __init__(self, listeners: Listeners) -> None:
        self._tell = listeners.tell
        self._doubtful: dict[tuple[str, str], Accepted] = {}
        self._inserted: AnyJob | None = None

    def hear(self, effect: fx.Effect[Any], answer: Any) -> None:
        if isinstance(effect, fx.Insert):
            if answer is None or (self._inserted is not None and answer.id == effect.job.id):
                self._tell("created", effect.job)
        elif isinstance(effect, (fx.Save, fx.SaveAndDispatch)):
            self._tell("transition", effect.transition)
        elif isinstance(effect, fx.SaveMany):
            self._many(effect.transitions, answer)
        elif isinstance(effect, fx.MoveDue):
            self._many(answer.transitions, answer.answers)
        elif self._doubtful and isinstance(effect, fx.Load):
            self._found(answer.id, answer.operation)
        elif self._doubtful and isinstance(effect, fx.History):
            for record in answer:
                self._found(record.job_id, record.operation)

    def doubt(self, effect: fx.Effect[Any], error: Exception) -> None:
        if not isinstance(error, OutcomeUnknownError):
            return
        if isinstance(effect, fx.Insert):
            self._inserted = effect.job
        for transition in _transitions(effect):
            self._keep(transition)

    def end(self, name: str, result: object) -> None:
        if isinstance(result, SweepReport):
            self.swept(result._asdict())
        elif isinstance(result, Swept):
            self.swept({name: result})

    def swept(self, made: Mapping[str, Swept]) -> None:
        for kind, swept in made.items():
            self._tell("swept", kind, swept)

    def _many(self, transitions: Sequence[Accepted], answers: Sequence[Exception | None]) -> None:
        for transition, answer in zip(transitions, answers, strict=True):
            if answer is None:
                self._tell("transition", transition)
            elif isinstance(answer, OutcomeUnknownError):
                self._keep(transition)

    def _keep(self, transition: Accepted) -> None:
        self._doubtful[transition.job_id, transition.changes["operation"]] = transition

    def _found(self, job_id: str, operation: str) -> None:
        transition = self._doubtful.pop((job_id, operation), None)
        if transition is not None:
            self._tell("transition", transition)


def _transitions(effect: fx.Effect[Any]) -> Iterator[Accepted]:
    if isinstance(effect, (fx.Save, fx.SaveAndDispatch)):
        yield effect.transition
    elif isinstance(effect, fx.SaveMany):
        yield from effect.transitions


class Counts(Observer):
    """Counts, for a metrics page: `transitions` by event, `refusals` by code, `deliveries` by (fate, reason). Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.transitions: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.deliveries: Counter[tuple[str, str | None]] = Counter()

    def created(self, job: AnyJob) -> None:
        """As `Observer.created`: counted as the transition `created`."""
        self._add(self.transitions, "created")

    def transition(self, transition: Accepted) -> None:
        """As `Observer.transition`."""
        self._add(self.transitions, str(transition.event))

    def refused(self, error: TransitionError) -> None:
        """As `Observer.refused`."""
        self._add(self.refusals, error.code)

    def delivery(self, delivery: Delivery, fate: str, reason: str | None) -> None:
        """As `Observer.delivery`."""
        self._add(self.deliveries, (str(fate), reason))

    def _add(self, counter: Counter[Any], key: object) -> None:
        with self._lock:
            counter[key] += 1


class LogObserver(Observer):
    """A line for each on a logger of the standard library, its fields in `record.jobstate` as well (`extra`)."""

    def __init__(self, log: logging.Logger | None = None, level: int = logging.INFO) -> None:
        self._log = log or logging.getLogger("jobstate")
        self._level = level

    def created(self, job: AnyJob) -> None:
        """As `Observer.created`."""
        self._write("created", job_id=job.id, endpoint=job.endpoint, status=str(job.status))

    def transition(self, transition: Accepted) -> None:
        """As `Observer.transition`."""
        source, target = str(transition.source), str(transition.target)
        self._write(str(transition.event), job_id=transition.job_id, source=source, target=target, version=transition.version)

    def refused(self, error: TransitionError) -> None:
        """As `Observer.refused`."""
        self._write("refused", job_id=error.job_id, event=str(error.event), code=error.code, status=str(error.status))

    def delivery(self, delivery: Delivery, fate: str, reason: str | None) -> None:
        """As `Observer.delivery`."""
        self._write("delivery", job_id=delivery.job_id, run=delivery.run, fate=str(fate), reason=reason)

    def swept(self, kind: str, swept: Swept) -> None:
        """As `Observer.swept`: a sweep that did nothing writes nothing."""
        if swept != Swept():
            self._write("swept", kind=kind, **swept._asdict())

    def _write(self, what: str, **fields: object) -> None:
        words = " ".join(f"{name}={value}" for name, value in fields.items())
        self._log.log(self._level, "%s %s", what, words, extra={"jobstate": {"what": what, **fields}})
