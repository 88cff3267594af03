"""The benchmark measures what it says, and says when a promise is broken."""

import pytest

from benchmarks import sandbox_stripe as benchmark
from benchmarks.server import Server
from benchmarks.wire import Wire


class Tiny(benchmark.Scale):
    """Next to nothing of everything."""

    def __init__(self):
        super().__init__(quick=True)
        self.of_each_kind = 8
        self.mix_seconds = 0.1
        self.step = 40
        self.customers = 8


class Running(Server):
    """The sandbox of the tests, which is no process of its own."""

    def __init__(self, url, sizes=()):
        self.url = url
        self.sizes = iter(sizes)

    def rss(self):
        return next(self.sizes, 100.0)


def test_each_kind_is_asked_for_and_the_rate_judged(
    stripe_sandbox, capsys, monkeypatch
):
    monkeypatch.setattr(benchmark, "MIN_RATE", 1)
    assert benchmark.measure_speed(Running(stripe_sandbox.url), Tiny())
    monkeypatch.setattr(benchmark, "MIN_RATE", 1_000_000)
    assert not benchmark.measure_speed(Running(stripe_sandbox.url), Tiny())

    printed = capsys.readouterr().out
    assert "\n1 a second: reached" in printed
    assert "1000000 a second: NOT REACHED" in printed
    asked = [(one["method"], one["path"]) for one in stripe_sandbox.requests()]
    for method, part in (
        ("GET", "/v1/invoices"),
        ("POST", "/finalize"),
        ("POST", "/pay"),
    ):
        assert any(verb == method and part in path for verb, path in asked)
    assert {one["status"] for one in stripe_sandbox.requests()} == {200}


def test_the_steady_mix_creates_nothing(stripe_sandbox, monkeypatch):
    monkeypatch.setattr(benchmark, "WARM", 8)
    with benchmark.accounts(Running(stripe_sandbox.url)) as [client, *_]:
        before = stripe_sandbox.app.store.counts()

        sent = benchmark.send_round(client, benchmark.STEADY)

        after = stripe_sandbox.app.store.counts()
    assert sent == 10
    grown = {kind for kind in after if after[kind] != before.get(kind)}
    assert grown == {"_answer", "event"}


@pytest.mark.parametrize(
    ("sizes", "cost", "verdict"),
    [
        ([100, 104, 104, 104], 1, True),
        ([50, 100, 104, 104], 1, True),
        ([100, 100, 104, 106], 1, False),
        ([100, 100, 100, 100], 9, False),
    ],
)
def test_memory_is_judged_from_the_first_third_on(sizes, cost, verdict):
    assert benchmark.report_memory([float(size) for size in sizes], cost) is verdict


def test_memory_is_measured_under_load(stripe_sandbox, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "WARM", 8)
    sizes = [100.0 + number for number in range(20)]

    assert not benchmark.measure_memory(Running(stripe_sandbox.url, sizes), Tiny())

    assert "NOT FLAT" in capsys.readouterr().out


def test_an_answer_that_is_an_error_ends_the_measurement(stripe_sandbox):
    wire = Wire(stripe_sandbox.url)

    with pytest.raises(RuntimeError, match="404"):
        wire.get("/v1/customers/cus_x")

    wire.close()
