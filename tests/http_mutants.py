"""Faults put into the HTTP adapter, and into what it stands on, by hand: one or more for each thing that it promises."""

from __future__ import annotations

from tests.mutants import Mutant

_ROUTER, _ANSWERS, _FAULTS = (f"adapters/fastapi/{name}.py" for name in ("router", "answers", "faults"))
_ROUTE, _BODIES, _PARAMETERS = (f"adapters/fastapi/{name}.py" for name in ("route", "bodies", "parameters"))
_DESK, _DOCUMENT, _WIRE = (f"adapters/fastapi/{name}.py" for name in ("desk", "documentation", "wire"))

_CREATED = "test_http.py::test_a_create_answers_with_the_queued_job_and_all_its_fields[memory]"
_DELAYED_CREATE = "test_http.py::test_a_create_whose_dispatch_is_delayed_answers_202_with_the_warning[memory]"
_DELAYED_RETRY = (
    "test_http.py::test_a_retry_whose_dispatch_is_delayed_answers_503_and_its_resend_dispatches_the_same_retry[memory]"
)
_KEY = "test_http.py::test_the_same_key_and_body_answer_with_the_first_job[memory]"
_ETAG = "test_http.py::test_polling_with_the_last_etag_answers_304_until_something_changes"
_UNREAD = "test_http.py::test_polling_loads_no_payload_unless_something_has_changed"
_PENDING = "test_http.py::test_retry_after_is_given_while_a_job_is_not_finished[memory]"
_SIZE = "test_http.py::test_a_body_over_the_limit_is_refused_and_one_at_the_limit_is_taken[memory]"
_HOST_FILTERS = "test_http.py::test_a_hosts_own_filters_hold_beside_the_others[memory]"
_PAGES = "test_http.py::test_pages_follow_each_other_in_both_directions_while_jobs_are_added[memory]"
_FILTERS = "test_http.py::test_each_filter_finds_what_it_says[memory]"
_RESTORED = "test_http.py::test_a_part_over_the_limit_goes_to_the_store_and_comes_back_when_it_is_asked_for[memory]"
_LOST = "test_http.py::test_a_restore_that_fails_answers_the_job_with_a_warning_and_no_etag[memory]"
_LIGHT = "test_http.py::test_polling_is_light_and_payloads_come_when_they_are_asked_for[memory]"
_SAME_404 = "test_http_tenants.py::test_the_404_is_the_same_for_a_job_of_another_organization_and_for_none"
_CROSSED = "test_http_tenants.py::test_no_call_on_anothers_job_sees_or_changes_anything"
_SAME_WORK = (
    "test_http_tenants.py::test_the_database_is_asked_the_same_and_does_the_same_for_anothers_job_as_for_none[sqlite-retry]"
)
_SAME_CALLS = "test_http_tenants.py::test_the_same_calls_are_made_on_the_ports_for_anothers_job_as_for_none[memory]"
_ROUTERS = "test_http.py::test_several_routers_of_one_application_serve_each_its_own_jobs"
_FLAGS = ": IncludeRequest = False,\n        include_response: IncludeResponse = False,\n"
_LOAD = """\
        statement = self._reading.load(organization_id is not None, payloads)
        rows = statement.run(line, {"id": job_id, "organization_id": organization_id}).rows
        if not rows:
"""

WHAT_A_HOST_GIVES = [
    Mutant(
        "the organization's dependency is not asked",
        _ROUTER,
        "caller=Depends(organization)",
        'caller=Depends(lambda: "org_a")',
        "test_http.py::test_who_is_not_known_gets_the_hosts_answer[memory]",
    ),
    Mutant(
        "any endpoint is taken",
        _BODIES,
        "if self.names and name not in self.names:",
        "if not name:",
        "test_http.py::test_a_hosts_enum_is_the_list_of_endpoints[memory]",
    ),
    Mutant(
        "the document does not name the endpoints",
        _BODIES,
        '{**handler(schema), "enum": self.names} if self.names else handler(schema)',
        "handler(schema)",
        "test_http.py::test_a_hosts_enum_is_the_list_of_endpoints[memory]",
    ),
    Mutant(
        "a request is not checked by its model",
        "face.py",
        'request=typed.encode_request(request) if typed else json_object("request", request),',
        'request=json_object("request", request),',
        "test_http.py::test_a_request_is_checked_by_its_endpoints_model_before_anything_is_stored[memory]",
    ),
    Mutant(
        "the document does not show the models",
        _BODIES,
        "if name in self._endpoints:",
        "if not name:",
        "test_http.py::test_the_openapi_document_shows_the_request_of_each_endpoint",
    ),
    Mutant(
        "a body that is told too large is read",
        _ROUTE,
        "if length.isdecimal() and int(length[:20]) > limit:",
        "if not limit:",
        "test_http.py::test_a_body_whose_length_is_too_large_is_not_read",
    ),
    Mutant("a body without a length has no limit", _ROUTE, "if size > limit:", "if not limit:", _SIZE),
    Mutant("a body at the limit is refused", _ROUTE, "if size > limit:", "if size >= limit:", _SIZE),
    Mutant("a host's filters are not asked for", _ROUTER, "metadata), hosts)", "metadata), {})", _HOST_FILTERS),
    Mutant(
        "a host's ids give way to the caller's",
        _PARAMETERS,
        "[job_id for job_id in value if job_id in there]",
        "value",
        _HOST_FILTERS,
    ),
    Mutant(
        "a host's metadata gives way to the caller's",
        _PARAMETERS,
        "if any(there.get(key, pair) != pair for key, pair in value.items()):",
        "if not there:",
        _HOST_FILTERS,
    ),
    Mutant(
        "a slash at the end of the prefix is doubled",
        _ROUTER,
        "prefix.rstrip('/')",
        "prefix",
        "test_http.py::test_the_prefix_is_the_hosts_with_or_without_a_slash_at_its_end",
    ),
    Mutant("a link leads to another router", _DOCUMENT, '{"operationId": prefix + to,', '{"operationId": to,', _ROUTERS),
    Mutant(
        "two routers name their calls alike", _DOCUMENT, '{"operation_id": prefix + name,', '{"operation_id": name,', _ROUTERS
    ),
    Mutant(
        "an error of the service goes to the host's handlers",
        _ROUTE,
        "except JobstateError as error:",
        "except KeyError as error:",
        "test_http.py::test_a_hosts_own_handlers_of_errors_are_for_its_own_errors[memory]",
    ),
]

TENANCY = [
    Mutant(
        "a call is made on the unscoped face", _DESK, "self._jobs.for_organization(organization_id)", "self._jobs", _SAME_404
    ),
    Mutant(
        "a read finds another's row",
        "adapters/sqlalchemy/statements.py",
        ' == bindparam("organization_id")) if scoped else found',
        ' == bindparam("organization_id")) if not scoped else found',
        f"{_SAME_404}[sqlite]",
    ),
    Mutant(
        "a list shows another's jobs",
        "face.py",
        "JobFilter(organization_id=self._scope.organization_id, **asked)",
        "JobFilter(organization_id=None, **asked)",
        _CROSSED,
    ),
    Mutant(
        "another's job has other words",
        "memory/repository.py",
        """\
                raise JobNotFoundError(job_id)
            return self._with_payloads(row""",
        """\
                raise JobNotFoundError(job_id if row is None else job_id + "!")
            return self._with_payloads(row""",
        f"{_SAME_404}[memory]",
    ),
    Mutant(
        "another's job is read, and then not shown",
        "adapters/sqlalchemy/store.py",
        _LOAD,
        _LOAD.replace("organization_id is not None, payloads", "False, payloads").replace(
            "if not rows:",
            "if not rows or organization_id not in (None, __import__('json').loads(rows[0][0])['organization_id']):",
        ),
        _SAME_WORK,
    ),
    Mutant(
        "another's job is looked for twice",
        "flows/commands.py",
        "    job = yield from Load(job_id, scope.organization_id, include_request)\n",
        "    job = yield from Load(job_id, None, include_request)\n"
        "    if job.organization_id != (scope.organization_id or job.organization_id):\n"
        "        job = yield from Load(job_id, scope.organization_id, include_request)\n",
        _SAME_CALLS,
    ),
]

KEYS_AND_POLLING = [
    Mutant("a create has no key", _ROUTER, "idempotency_key=idempotency_key),", "idempotency_key=None),", _KEY),
    Mutant("another body under a key is a 400", _FAULTS, 'Problem(409, "idempotency', 'Problem(400, "idempotency', _KEY),
    Mutant("a conflict of keys does not say so", _FAULTS, ", which was created from another body", "", _KEY),
    Mutant(
        "a retry has no key",
        _ROUTER,
        "retry_key=idempotency_key",
        "retry_key=None",
        "test_http.py::test_a_retry_under_a_key_is_the_same_retry_in_any_status[memory]",
    ),
    Mutant("the tag is not the version", _ANSWERS, """{"ETag": f'"{job.version}"'}""", """{"ETag": '"0"'}""", _CREATED),
    Mutant("a known version is sent again", _ANSWERS, """f'"{job.version}"' in tags or tags == ["*"]""", "False", _ETAG),
    Mutant("any version is known", _ANSWERS, 'tags == ["*"]', "True", _ETAG),
    Mutant("a star is no tag", _ANSWERS, 'tags == ["*"]', "False", _ETAG),
    Mutant("a weak tag is another", _ANSWERS, '.removeprefix("W/")', "", _ETAG),
    Mutant("of several tags the first counts", _ANSWERS, 'if_none_match.split(",")]', 'if_none_match.split(",")][:1]', _ETAG),
    Mutant(
        "payloads of a known version are read",
        _ROUTER,
        "if if_none_match is not None and (include_request or include_response):",
        "if if_none_match is not None and not job_id:",
        _UNREAD,
    ),
    Mutant("a finished job is to be polled", _ANSWERS, " and job.status not in _FINISHED:", ":", _PENDING),
    Mutant(
        "a pending job has no Retry-After", _ANSWERS, "if retry_after is not None and", "if retry_after is None and", _PENDING
    ),
    Mutant("a 503 has no Retry-After", _FAULTS, "if problem.status == 503 else", "if problem.status == 0 else", _DELAYED_RETRY),
    Mutant(
        "a lost race has another status",
        _FAULTS,
        'Problem(409, "conflict"',
        'Problem(400, "conflict"',
        "test_http.py::test_a_command_that_loses_race_upon_race_is_a_conflict_and_was_not_done",
    ),
    Mutant(
        "a lost race is not decided again",
        "flows/settle.py",
        "    except StaleJobError:\n        return None\n    except OutcomeUnknownError:\n        return job.version",
        "    except OutcomeUnknownError:\n        return job.version",
        "test_http.py::test_a_cancel_that_loses_a_race_is_refused_with_what_it_found",
    ),
]

DELAYED = [
    Mutant(
        "a delayed create is a 200",
        _ANSWERS,
        "_headers(job, retry_after), 202)",
        "_headers(job, retry_after), 200)",
        _DELAYED_CREATE,
    ),
    Mutant(
        "a delayed create has no warning",
        _WIRE,
        '"request", "response", "warnings", "metadata")',
        '"request", "response", "metadata")',
        _DELAYED_CREATE,
    ),
    Mutant(
        "a delayed retry is a 200",
        _ANSWERS,
        "        return answer(Problem(503, DISPATCH_DELAYED",
        "        _ = answer(Problem(503, DISPATCH_DELAYED",
        _DELAYED_RETRY,
    ),
    Mutant(
        "a delayed retry has other words",
        _ANSWERS,
        '"Retry queued; dispatch is delayed"',
        '"Retry queued, dispatch is delayed"',
        _DELAYED_RETRY,
    ),
    Mutant(
        "a resent retry dispatches nothing",
        "flows/commands.py",
        "    job = yield from hand_over(scope, outcome.job, tell=True)\n",
        "    job = (yield from hand_over(scope, outcome.job, tell=True)) if outcome.moved else outcome.job\n",
        _DELAYED_RETRY,
    ),
]

LISTS = [
    Mutant("a page does not lie behind its cursor", _ROUTER, "after=after,", "after=None,", _PAGES),
    Mutant("a page does not lie before its cursor", _ROUTER, "before=before,", "before=None,", _PAGES),
    Mutant("a list has one order", _ROUTER, "order=order,", 'order="desc",', _PAGES),
    Mutant(
        "a page backwards begins one too early",
        "flows/reading.py",
        "jobs[1:] if page.backwards else jobs[:limit]",
        "jobs[:limit]",
        _PAGES,
    ),
    *(
        Mutant(f"the filter {name} finds all", _PARAMETERS, old, f'"{name}": None,', _FILTERS)
        for name, old in {
            "ids": '"ids": job_id and [job_id],',
            "status": '"status": status,',
            "endpoint": '"endpoint": endpoint,',
            "created_from": '"created_from": from_date and midnight(from_date),',
            "created_to": '"created_to": to_date and midnight(to_date, after=True),',
            "metadata": '"metadata": metadata and metadata_of(metadata),',
        }.items()
    ),
    Mutant("the last day is left out", _PARAMETERS, "midnight(to_date, after=True)", "midnight(to_date)", _FILTERS),
    Mutant(
        "a page may be of any size",
        _PARAMETERS,
        "Query(ge=1, le=100,",
        "Query(ge=1, le=1000,",
        "test_http.py::test_a_bad_filter_is_named",
    ),
    Mutant(
        "a day may be any text",
        _PARAMETERS,
        "FromDate = Annotated[str | None, _DATE, AfterValidator(_day)]",
        "FromDate = Annotated[str | None, Query()]",
        "test_http.py::test_a_bad_filter_is_named",
    ),
    Mutant(
        "a bad filter is not named",
        _FAULTS,
        '[str(part) for part in error["loc"][1:]] or ["body"]',
        '["body"]',
        "test_http.py::test_a_bad_filter_is_named",
    ),
]

PAYLOADS = [
    Mutant(
        "a poll reads the request",
        _ROUTER,
        f"include_request{_FLAGS}        if_none_match",
        f"include_request{_FLAGS.replace('False', 'True', 1)}        if_none_match",
        _LIGHT,
    ),
    Mutant(
        "a poll reads the response",
        _ROUTER,
        "        include_response: IncludeResponse = False,\n        if_none_match",
        "        include_response: IncludeResponse = True,\n        if_none_match",
        _LIGHT,
    ),
    Mutant(
        "a list reads the requests",
        _ROUTER,
        f"include_request{_FLAGS}    ) -> Response",
        f"include_request{_FLAGS.replace('False', 'True', 1)}    ) -> Response",
        "test_http.py::test_who_does_not_ask_for_a_request_asks_the_store_for_nothing[memory]",
    ),
    Mutant(
        "a cancel answers without the request",
        _ROUTER,
        "jobs.cancel(job_id, include_request=True)",
        "jobs.cancel(job_id)",
        _RESTORED,
    ),
    Mutant(
        "no part is put into the store",
        "flows/commands.py",
        "    limit = scope.policy.inline_limit if",
        "    limit = None if",
        _RESTORED,
    ),
    Mutant(
        "no part comes back",
        "flows/whole.py",
        "    if job.request is None or not (parts := parts_of(job)):\n        return job\n    found, lost",
        "    if True or not (parts := parts_of(job)):\n        return job\n    found, lost",
        _RESTORED,
    ),
    Mutant("where parts are is not told", _WIRE, "None if artifacts is None else", "None if artifacts else", _RESTORED),
    Mutant(
        "a part that is lost is an error",
        "flows/whole.py",
        "except (ArtifactError, InvalidInputError):\n            lost",
        "except InvalidInputError:\n            lost",
        _LOST,
    ),
    Mutant("a part that is lost is not told", "flows/whole.py", " if lost else job", " if not lost else job", _LOST),
    Mutant("a job without its parts has a tag", _ANSWERS, "{} if is_degraded(job) else ", "", _LOST),
    Mutant(
        "a file is written over",
        "adapters/filesystem.py",
        "os.link(unfinished, path)",
        "os.replace(unfinished, path)",
        "test_stores.py::TestFileSystem",
    ),
    Mutant(
        "an object is written over",
        "adapters/fsspec.py",
        'data, mode="create"',
        'data, mode="overwrite"',
        "test_stores.py::TestFsspecMemory",
    ),
]

THE_DOCUMENT = [
    Mutant(
        "a 304 is not in the document",
        _DOCUMENT,
        '200: _job("The job.", _POLLED), 304: _UNCHANGED,',
        '200: _job("The job.", _POLLED),',
        _ETAG,
    ),
    Mutant("a 202 is not in the document", _DOCUMENT, "        202: _job(", "        299: _job(", _DELAYED_CREATE),
    Mutant("a 409 is not in the document", _DOCUMENT, "_errors(409, 413)", "_errors(413)", _KEY),
    Mutant("a 413 is not in the document", _DOCUMENT, "_errors(409, 413)", "_errors(409)", _SIZE),
    Mutant("a tag is not in the document", _DOCUMENT, "_POLLED = {**_ETAG, **_LATER}", "_POLLED = _LATER", _ETAG),
    Mutant(
        "a field has another type in the document",
        _WIRE,
        "metadata: Annotated[dict[str, str],",
        "metadata: Annotated[list[str],",
        _CREATED,
    ),
]

HOSTILE = [
    Mutant(
        "NaN is taken",
        _ROUTE,
        "allow_inf_nan=False",
        "allow_inf_nan=True",
        "test_http_hostile.py::test_a_bad_body_is_named_by_its_field",
    ),
    Mutant(
        "what is not JSON is an error of the server",
        _ROUTE,
        "except ValueError as error:",
        "except KeyError as error:",
        "test_http_hostile.py::test_a_bad_body_is_named_by_its_field",
    ),
    Mutant(
        "all faults are told",
        _FAULTS,
        "for error in errors[:SHOWN]]",
        "for error in errors]",
        "test_http_hostile.py::test_a_fault_that_repeats_what_was_sent_does_so_in_part",
    ),
    Mutant(
        "an unknown field is taken",
        _BODIES,
        'extra="forbid"',
        'extra="ignore"',
        "test_http_hostile.py::test_a_bad_body_is_named_by_its_field",
    ),
    Mutant(
        "the words of a store are told",
        _FAULTS,
        '"a service behind this one did not answer: repeat the request later"',
        "str(_)",
        "test_http.py::test_an_error_of_the_store_has_its_status_and_tells_no_secret",
    ),
    Mutant(
        "an error is shown whatever the status",
        _WIRE,
        "job.error if job.status is JobStatus.FAILED else None",
        "job.error",
        "test_http.py::test_an_error_is_shown_while_the_job_is_failed_only[memory]",
    ),
]

SERVE = [
    Mutant(
        "any key is known",
        "serve.py",
        "if hmac.compare_digest(key.encode(), given):",
        "if key:",
        "test_serve.py::test_a_document_is_extracted_by_the_served_demo",
    ),
    Mutant(
        "a key is read from the header only",
        "serve.py",
        "(api_key or access_token or",
        "(api_key or",
        "test_serve.py::test_a_document_is_extracted_by_the_served_demo",
    ),
    Mutant(
        "no worker runs",
        "serve.py",
        "        dispatcher.start(jobs, handler)\n",
        "        dispatcher.start(jobs, lambda request, context: None)\n",
        "test_serve.py::test_a_document_is_extracted_by_the_served_demo",
    ),
    Mutant(
        "what runs is not given back",
        "serve.py",
        "            await asyncio.to_thread(partial(dispatcher.stop, grace=grace))\n",
        "            __import__('os')._exit(0)\n",
        "test_serve.py::test_what_runs_when_it_is_stopped_is_given_back_and_run_by_the_next_one",
    ),
]

HTTP_MUTANTS = [
    *WHAT_A_HOST_GIVES,
    *TENANCY,
    *KEYS_AND_POLLING,
    *DELAYED,
    *LISTS,
    *PAYLOADS,
    *THE_DOCUMENT,
    *HOSTILE,
    *SERVE,
]
