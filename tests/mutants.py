"""Faults put into the core and the flows by hand: each a mistake that somebody could make, and a suite that must see it."""

from __future__ import annotations

from typing import NamedTuple

PAIRS = "test_exploration.py::test_all_pairs[a lost answer]"
ANY_NUMBER = "test_exploration.py::test_any_number_of_workers_cancels_and_retries"
RESENT = "test_exploration.py::test_a_resent_retry_is_one_retry"
UNDELIVERED = "test_exploration.py::test_all_pairs[a failed dispatch]"


class Mutant(NamedTuple):
    """A fault: in which file, which text instead of which, and the test that must be red."""

    name: str
    file: str
    old: str
    new: str
    seen_by: str = PAIRS


MUTANTS = [
    Mutant(
        "a retry keeps the error", "lifecycle/changes.py", '    "error": None,\n    "response": None', '    "response": None'
    ),
    Mutant("a retry keeps the cancel flag", "lifecycle/changes.py", '    "cancelled": False,\n', ""),
    Mutant("a retry keeps the lease", "lifecycle/changes.py", '    "lease": None,\n    "cancelled"', '    "cancelled"'),
    Mutant(
        "a retry keeps the dispatch mark",
        "lifecycle/changes.py",
        '    **DISPATCH_PENDING,\n    "dispatch_delayed_at"',
        '    "dispatch_delayed_at"',
    ),
    Mutant(
        "a retry keeps the expiry", "lifecycle/changes.py", '["expires_at"] = at + job.ttl', '["expires_at"] = job.expires_at'
    ),
    Mutant(
        "a retry gives no fresh budget",
        "lifecycle/changes.py",
        '["attempt_base"] = job.attempt_count',
        '["attempt_base"] = job.attempt_base',
    ),
    Mutant(
        "a retry is the same run",
        "lifecycle/changes.py",
        '["run"] = job.run + 1',
        '["run"] = job.run',
    ),
    Mutant(
        "a release is the same run",
        "lifecycle/changes.py",
        '        "run": job.run + 1,\n        "last',
        '        "run": job.run,\n        "last',
    ),
    Mutant(
        "an attempt is not counted",
        "lifecycle/changes.py",
        '"attempt_count": job.attempt_count + 1',
        '"attempt_count": job.attempt_count',
    ),
    Mutant(
        "a release keeps the lease",
        "lifecycle/changes.py",
        '        "progress": None,\n        "lease": None,\n    }',
        '        "progress": None,\n    }',
    ),
    Mutant(
        "clean-up keeps the request",
        "lifecycle/changes.py",
        '"cleanup_started_at": at, "request": None,',
        '"cleanup_started_at": at,',
    ),
    Mutant(
        "a lease ends as it begins",
        "lifecycle/changes.py",
        'else at + policy.lease_seconds\n    return {\n        "attempt',
        'else at\n    return {\n        "attempt',
    ),
    Mutant(
        "any token is the lease's",
        "lifecycle/guards.py",
        'if job.lease is not None and job.lease.token == facts["token"]:',
        "if job.lease is not None:",
        ANY_NUMBER,
    ),
    Mutant(
        "a live lease is over",
        "lifecycle/guards.py",
        "    return end if end > at else None",
        "    return end if end < at else None",
    ),
    Mutant(
        "no margin for skew",
        "lifecycle/guards.py",
        "job.lease.expires_at + policy.skew_seconds\n",
        "job.lease.expires_at - 1\n",
        "test_matrix.py",
    ),
    Mutant("any run may start", "lifecycle/guards.py", 'if facts["run"] == job.run:', 'if facts["run"] <= job.run:'),
    Mutant(
        "attempts without end",
        "lifecycle/guards.py",
        "if job.attempts_used < job.max_attempts:",
        "if job.attempts_used <= job.max_attempts:",
    ),
    Mutant(
        "a retry after clean-up",
        "lifecycle/guards.py",
        'if job.cleanup_started_at is None:\n        return None\n    return Reason("cleaned_up", f"clean-up began',
        'if job.cleanup_completed_at is None:\n        return None\n    return Reason("cleaned_up", f"clean-up began',
    ),
    Mutant("expired too early", "lifecycle/guards.py", "if at >= job.expires_at:", "if at < job.expires_at:"),
    Mutant(
        "cleaned too early",
        "lifecycle/guards.py",
        "if at >= (due := job.expires_at + seconds(policy.cleanup_after)):",
        "if at >= (due := job.expires_at):",
        "test_matrix.py",
    ),
    Mutant("a second retry is done again", "lifecycle/decision.py", "    Event.RETRY: ", "    Event.ACCEPT: ", RESENT),
    Mutant(
        "a mark of the row's time runs back",
        "lifecycle/decision.py",
        "    return now if now > last else last\n",
        "    return now\n",
        "test_exploration.py::test_all_pairs[a skewed clock]",
    ),
    Mutant("the operation is not stored", "lifecycle/decision.py", '    changes["operation"] = operation\n', ""),
    Mutant(
        "a conflict is success",
        "flows/settle.py",
        "    except StaleJobError:\n        return None\n",
        "    except StaleJobError:\n        return Outcome(job, moved=True)\n",
    ),
    Mutant(
        "a lost answer is success",
        "flows/settle.py",
        "    except OutcomeUnknownError:\n        return job.version\n",
        "    except OutcomeUnknownError:\n        return Outcome(apply(job, decision), moved=True)\n",
    ),
    Mutant(
        "a lost answer is forgotten",
        "flows/settle.py",
        "    except OutcomeUnknownError:\n        return job.version\n",
        "    except OutcomeUnknownError:\n        return None\n",
    ),
    Mutant(
        "the own operation is not looked for",
        "flows/settle.py",
        "            if job.operation == asked.operation:\n                return Outcome(job, moved=True)\n",
        "",
    ),
    Mutant(
        "the doubt is dropped too late",
        "flows/settle.py",
        "if doubt is not None and job.version == doubt + 1:",
        "if doubt is not None and job.version >= doubt:",
    ),
    Mutant(
        "what is done is not looked for in the history",
        "flows/settle.py",
        "        if any(record.operation == asked.operation for record in records):\n            return Outcome(job, moved=True)\n",
        "",
        "test_lost_answers.py",
    ),
    Mutant(
        "a refusal on stale data is told",
        "flows/settle.py",
        "return None if held else answer(job, decision)",
        "return answer(job, decision)",
        "test_fencing.py",
    ),
    Mutant(
        "a failed dispatch is an error",
        "flows/dispatch.py",
        "    except Exception:\n        if scope.bound:\n",
        "    except KeyError:\n        if scope.bound:\n",
        UNDELIVERED,
    ),
    Mutant(
        "a dispatch is marked before it is made",
        "flows/dispatch.py",
        "    taken: object = yield from Dispatch(job.delivery, name, early)\n    if is_storable_name(taken):  # an engine that has no name of its own for the task goes by ours\n        name = taken\n",
        "",
    ),
    Mutant(
        "a retry is not dispatched",
        "flows/commands.py",
        "    job = yield from hand_over(scope, outcome.job, tell=True)\n    return",
        "    job = outcome.job\n    return",
        "test_dispatch.py",
    ),
    Mutant(
        "a job is dispatched before it is stored",
        "flows/commands.py",
        "    stored = yield from _insert(scope, job, actor)\n",
        "    job = yield from hand_over(scope, job, tell=True)\n    stored = yield from _insert(scope, job, actor)\n",
    ),
    Mutant(
        "a create makes another after a lost answer",
        "flows/commands.py",
        "return (yield from Insert(new, creation_record(new, actor), name, early)) or new",
        "return (yield from Insert(evolve(new, {'id': (yield from NewId(IdKind.JOB)), 'idempotency_key': None}), creation_record(new, actor), name, early)) or new",
    ),
    Mutant(
        "artifacts go before the clean-up is saved",
        "flows/sweeps.py",
        "    moved, swept = yield from _move(scope, place, Event.BEGIN_CLEANUP)\n    begun = [decision for decision, answer in zip(moved.transitions, moved.answers, strict=True) if answer is None]\n    yield from _clear(scope, begun)",
        "    page = yield from _page(place)\n    accepted = (yield from _verdict(scope, Event.BEGIN_CLEANUP))(page.jobs)\n    yield from _clear(scope, accepted)\n    moved, swept = yield from _save(page, accepted)",
        "test_exploration.py::test_artifacts_are_there_for_a_retry_and_gone_after_clean_up",
    ),
    Mutant(
        "artifacts stay at the end of a clean-up",
        "flows/sweeps.py",
        "    cleared = yield from _clear(scope, accepted)\n    _, swept",
        "    cleared = accepted\n    _, swept",
        "test_exploration.py::test_artifacts_are_there_for_a_retry_and_gone_after_clean_up",
    ),
    Mutant(
        "the relay never sends again",
        "flows/sweeps.py",
        "    unstarted = yield from _over(scope, Due.UNSTARTED, seconds(scope.policy.redispatch_after), _send)\n",
        "    unstarted = Swept()\n",
    ),
    Mutant(
        "the relay forgets what is pending",
        "flows/sweeps.py",
        "    pending = yield from _over(scope, Due.PENDING, 0, _send)\n",
        "    pending = Swept()\n",
    ),
    Mutant(
        "nobody rescues", "flows/sweeps.py", "Due.UNLEASED, scope.policy.skew_seconds, _rescue", "Due.UNLEASED, 10**8, _rescue"
    ),
    Mutant(
        "a sweep marks what it did not send",
        "flows/sweeps.py",
        "        except Exception:\n            failed += 1\n            continue\n        sent += 1\n        if isinstance(mark",
        "        except Exception:\n            failed += 1\n            mark = taken = decide(job, Event.DISPATCHED, (yield from Now()), policy=scope.policy, run=job.run, task_name='x')\n            marks.append(mark)\n        sent += 1\n        if isinstance(mark",
        UNDELIVERED,
    ),
    Mutant("a save does not compare", "memory/repository.py", "if row is None or row.version != version:", "if row is None:"),
    Mutant(
        "a start runs on a request with references in it",
        "flows/attempts.py",
        "    job = yield from _made_whole(scope, job, asked)\n",
        "",
        "test_exploration_parts.py",
    ),
    Mutant(
        "parts are not put",
        "flows/commands.py",
        "            yield from put_artifact(parts[name].key, data)\n",
        "            pass\n",
        "test_exploration_parts.py",
    ),
    Mutant(
        "a reference counts anywhere",
        "parts.py",
        " and name == part_name(place)",
        "",
        "test_parts.py",
    ),
    Mutant(
        "a save compares the wrong way",
        "memory/repository.py",
        "if row is None or row.version != version:",
        "if row is None or row.version > version + 1:",
    ),
    Mutant(
        "a record is not written",
        "memory/repository.py",
        "if (record := transition.record) is not None:",
        "if (record := transition.record) is not None and transition.event != 'cancel':",
    ),
    Mutant(
        "keys of other tenants",
        "memory/repository.py",
        "self._keys[job.organization_id, job.idempotency_key] = job.id",
        "pass",
        "test_exploration.py::test_two_creates_of_one_key_are_one_job",
    ),
]
