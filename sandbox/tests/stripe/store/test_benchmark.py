"""The benchmark of the Stripe sandbox: its requests and its verdicts."""

import pytest

from benchmarks import sandbox_stripe as benchmark
from benchmarks.support.results import Results
from benchmarks.support.server import Server, running_bare
from benchmarks.support.wire import Wire


class TinyScale(benchmark.Scale):
    """Scale with very few requests."""

    def __init__(self):
        super().__init__(quick=True)
        self.requests_per_kind = 8
        self.mix_seconds = self.bare_seconds = 0.1
        self.step = 40
        self.customers = 8


class SandboxServer(Server):
    """Server for the sandbox of the test, which runs in this process."""

    def __init__(self, url, sizes=()):
        self.url = url
        self.sizes = iter(sizes)

    def rss(self):
        return next(self.sizes, 100.0)


def test_speed_measurement_sends_every_kind_of_request_and_compares_the_rate(
    stripe_sandbox, monkeypatch
):
    server = SandboxServer(stripe_sandbox.url)
    slow, fast = (Results("sandbox_stripe", quick=True) for _ in range(2))
    with running_bare() as bare:
        monkeypatch.setattr(benchmark, "MIN_SHARE", 0.0001)
        benchmark.measure_speed(fast, server, bare, TinyScale())
        monkeypatch.setattr(benchmark, "MIN_SHARE", 1_000)
        benchmark.measure_speed(slow, server, bare, TinyScale())

    assert fast.missed == []
    assert slow.missed == ["share"]
    sent_requests = [
        (request["method"], request["path"]) for request in stripe_sandbox.requests()
    ]
    for method, part in (
        ("GET", "/v1/invoices"),
        ("POST", "/finalize"),
        ("POST", "/pay"),
    ):
        assert any(verb == method and part in path for verb, path in sent_requests)
    assert {request["status"] for request in stripe_sandbox.requests()} == {200}


def test_steady_mix_creates_only_events_and_idempotent_responses(
    stripe_sandbox, monkeypatch
):
    monkeypatch.setattr(benchmark, "WARM_UP_WRITES", 8)
    with benchmark.accounts(SandboxServer(stripe_sandbox.url)) as [client, *_]:
        before = stripe_sandbox.app.store.counts()

        count = benchmark.send_round(client, benchmark.STEADY)

        after = stripe_sandbox.app.store.counts()
    assert count == 10
    grown_kinds = {kind for kind in after if after[kind] != before.get(kind)}
    assert grown_kinds == {"_answer", "event"}


@pytest.mark.parametrize(
    ("sizes", "cost", "missed"),
    [
        ([100, 104, 104, 104], 1, []),
        ([50, 100, 104, 104], 1, []),
        ([100, 100, 104, 106], 1, ["growth"]),
        ([100, 100, 100, 100], 9, ["customer"]),
    ],
)
def test_memory_growth_is_measured_after_the_first_third(sizes, cost, missed):
    results = Results("sandbox_stripe", quick=True)

    benchmark.report_memory(results, [float(size) for size in sizes], cost)

    assert results.missed == missed


def test_growing_memory_under_load_is_reported(stripe_sandbox, monkeypatch):
    results = Results("sandbox_stripe", quick=True)
    monkeypatch.setattr(benchmark, "WARM_UP_WRITES", 8)
    sizes = [100.0 + number for number in range(20)]

    benchmark.measure_memory(
        results, SandboxServer(stripe_sandbox.url, sizes), TinyScale()
    )

    assert "growth" in results.missed


def test_error_response_stops_the_benchmark(stripe_sandbox):
    wire = Wire(stripe_sandbox.url)

    with pytest.raises(RuntimeError, match="404"):
        wire.get("/v1/customers/cus_x")

    wire.close()
