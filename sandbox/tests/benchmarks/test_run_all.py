"""All benchmarks in one run: it goes on after a failure, and shows all figures."""

import subprocess
import sys

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks.support import results
from benchmarks.support.report import figures
from benchmarks.support.results import Results


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run with the given exit statuses of the benchmarks by their names."""
    monkeypatch.setattr(results, "DIRECTORY", tmp_path)
    monkeypatch.setattr(benchmarks, "DIRECTORY", tmp_path)

    def run_with(statuses, *arguments):
        def execute(command, **options):
            name = command[2].removeprefix("benchmarks.")
            measured = Results(name, quick="--quick" in command)
            measured.add("rate", f"Rate of {name}", 3, at_most=3 - statuses[name])
            measured.finish()
            return subprocess.CompletedProcess(command, statuses[name])

        monkeypatch.setattr(subprocess, "run", execute)
        monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
        monkeypatch.setattr(figures, "names", lambda: sorted(statuses))
        return benchmarks.main()

    return run_with


def test_run_goes_on_after_a_failure_and_shows_all_figures_at_the_end(run, capsys):
    assert run({"attacks": 1, "latency": 0}) == 1

    table = capsys.readouterr().out.partition("\nattacks: FAILED with status 1")[2]
    assert "Rate of attacks" in table
    assert "NOT KEPT" in table
    assert "latency: passed" in table
    assert "Rate of latency" in table


def test_only_named_benchmarks_are_run(run, capsys):
    assert run({"attacks": 1, "latency": 0}, "--quick", "latency") == 0

    assert "attacks" not in capsys.readouterr().out
