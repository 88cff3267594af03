"""The API against its own description, by thousands of requests that nobody designed.

Each is signed by somebody, and again in one of the ways in which nothing is signed.
There is no fault of ours, no answer that is not described, no trace of what is refused,
and nothing in an answer that is not for who has asked. `API_FUZZ_EXAMPLES=1000` tries
more of each operation, and at random.
"""

import os
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
from api.tests.support.scenario import build
from api.tests.support.schema_checks import Judge, Operation, require_described
from api.tests.support.signing import SigningApp

#: Requests of each operation beyond those that its description suggests.
EXAMPLES = int(os.environ.get("API_FUZZ_EXAMPLES", "30"))
#: How many requests are made at the least.
LEAST = 2_000
AUTH_CODES = {error.code for error in AUTH_ERRORS}
#: What is a relay's id by its form.
ABSENT = "00000000-0000-4000-8000-000000000000"
MODES = list(GenerationMode)

pytestmark = pytest.mark.django_db


@pytest.fixture
def app(db, settings) -> Iterator[SigningApp]:
    """The application, which leaves the test's connection and its rate alone."""
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
def judge(prices, admin, sandbox, wallets, own_wallet, rates, zooid, app) -> Judge:
    world = build(admin=admin, sandbox=sandbox, wallets=wallets, zooid=zooid)
    return Judge(world, app)


def operations(description: BaseSchema) -> list[Operation]:
    found = [*description.get_all_operations()]
    assert all(isinstance(each, Ok) for each in found), found
    return [each.ok() for each in found if isinstance(each, Ok)]


def suggested(operation: Operation) -> Iterator[Case[Any]]:
    """The cases that the description itself suggests: at each border, and beyond it."""
    yield from operation.schema.iter_coverage_cases(
        operation,
        generation_modes=MODES,
        generation_config=operation.schema.config.generation_for(operation=operation),
    )


def try_random_cases(operation: Operation, judge: Judge) -> None:
    strategies = [operation.as_strategy(generation_mode=mode) for mode in MODES]

    @given(case=one_of(strategies))
    @settings(
        max_examples=EXAMPLES,
        derandomize="API_FUZZ_EXAMPLES" not in os.environ,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def try_it(case: Case[Any]) -> None:
        judge.try_by_chance(case)

    try_it()


@pytest.mark.filterwarnings("ignore:Do not use the `random` module")  # other threads do
def test_no_request_gets_more_or_less_than_is_described(description, judge, subtests):
    for operation in operations(description):
        with subtests.test(operation.label):
            judge.try_by_all(operation)
            for case in suggested(operation):
                judge.try_by_chance(case)
            try_random_cases(operation, judge)

    counts = judge.counts
    assert counts["signed"] + counts["wrong"] >= LEAST, counts
    assert {code for code in counts if code.startswith("auth-")} == AUTH_CODES


def test_each_operation_is_throttled_as_is_described(description, settings):
    settings.API_RATE_PER_ADDRESS = "1/hour"
    for operation in operations(description):
        names = [each.name for each in operation.path_parameters]
        case = operation.Case(path_parameters=dict.fromkeys(names, ABSENT))
        case.call()

        response = case.call()

        assert response.status_code == 429
        assert response.json()["code"] == "throttled"
        assert 0 < int(response.headers["retry-after"][0]) <= 3600
        require_described(case, response)
