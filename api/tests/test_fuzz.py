"""Thousands of requests that are generated from the API's OpenAPI description.

Some are signed, some have an invalid signature. There must be no internal error, no
undocumented response, no write by a refused request, and no data of other tenants.
The cases are the same in each run, except those of `make search`.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import one_of
from schemathesis import BaseSchema, Case, GenerationMode
from schemathesis.core.result import Ok

from api.schema import AUTH_ERRORS
from api.tests.support.scenario import build_scenario
from api.tests.support.schema_checks import (
    ApiChecker,
    Operation,
    require_schema_conformance,
)
from api.tests.support.signing import SigningApp
from caravel.tests.support import search

#: Minimum number of requests in total.
MIN_REQUESTS = 2_000
AUTH_CODES = {error.code for error in AUTH_ERRORS}
#: A well-formed relay id.
UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"
MODES = list(GenerationMode)

pytestmark = pytest.mark.django_db


@pytest.fixture
def app(db, settings) -> Iterator[SigningApp]:
    """The application, without rate limits, on the test's database connection."""
    settings.API_RATE_PER_ADDRESS = settings.API_RATE_PER_KEY = "1000000/minute"
    settings.API_RATE_COSTLY = "1000000/minute"
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield SigningApp()
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def description(app) -> BaseSchema:
    return schemathesis.openapi.from_wsgi("/api/schema", app)


@pytest.fixture
def checker(
    prices, admin, sandbox, wallets, own_wallet, rates, zooid, app
) -> ApiChecker:
    scenario = build_scenario(
        admin=admin, sandbox=sandbox, wallets=wallets, zooid=zooid
    )
    return ApiChecker(scenario, app)


def operations(description: BaseSchema) -> list[Operation]:
    results = [*description.get_all_operations()]
    assert all(isinstance(each, Ok) for each in results), results
    return [each.ok() for each in results if isinstance(each, Ok)]


def schema_cases(operation: Operation) -> Iterator[Case[Any]]:
    """Yield the cases derived from the schema: at each boundary, and beyond it."""
    yield from operation.schema.iter_coverage_cases(
        operation,
        generation_modes=MODES,
        generation_config=operation.schema.config.generation_for(operation=operation),
    )


def try_random_cases(operation: Operation, checker: ApiChecker) -> None:
    strategies = [operation.as_strategy(generation_mode=mode) for mode in MODES]

    @given(case=one_of(strategies))
    @settings(
        max_examples=search.examples(15),
        derandomize=not search.IS_LARGE,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: Case[Any]) -> None:
        checker.check_randomly_signed(case)

    check()


@pytest.mark.search
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")  # other threads do
def test_generated_requests_get_only_documented_responses(
    description, checker, subtests
):
    for operation in operations(description):
        with subtests.test(operation.label):
            checker.check_all_signers(operation)
            for case in schema_cases(operation):
                checker.check_randomly_signed(case)
            checker.check_cursors(operation)
            try_random_cases(operation, checker)
            checker.check_remaining_faults(operation)

    counts = checker.counts
    assert counts["signed"] + counts["wrong"] >= MIN_REQUESTS, counts
    assert {code for code in counts if code.startswith("auth-")} == AUTH_CODES


def test_each_operation_is_throttled_as_documented(description, settings):
    settings.API_RATE_PER_ADDRESS = "1/hour"
    for operation in operations(description):
        names = [each.name for each in operation.path_parameters]
        case = operation.Case(path_parameters=dict.fromkeys(names, UNKNOWN_ID))
        case.call()

        response = case.call()

        assert response.status_code == 429
        assert response.json()["code"] == "throttled"
        assert 0 < int(response.headers["retry-after"][0]) <= 3600
        require_schema_conformance(case, response)
