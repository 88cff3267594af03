"""The page of all figures: it names only measured ones, and shows missed limits."""

import json
import sys
from xml.etree import ElementTree

import pytest

from benchmarks import report
from benchmarks.support import results
from benchmarks.support.report import figures, page, plots
from benchmarks.support.results import Figure, Results

TITLE = "Duration, s, by tenants"


@pytest.fixture
def docs(tmp_path, monkeypatch):
    """A page that shows one benchmark, in a directory of its own."""
    monkeypatch.setattr(results, "DIRECTORY", tmp_path / "runs")
    monkeypatch.setattr(figures, "PATH", tmp_path / "figures.json")
    monkeypatch.setattr(plots, "DIRECTORY", tmp_path)
    monkeypatch.setattr(page, "PATH", tmp_path / "performance.md")
    merge = figures.merge
    monkeypatch.setattr(figures, "merge", lambda: merge(tmp_path / "runs"))
    page.PATH.write_text(
        "Payments: <!-- figure attacks.rate -->?<!-- end -->.\n"
        "<!-- figures attacks --><!-- end -->\n<!-- plots attacks --><!-- end -->\n"
        "<!-- missed --><!-- end -->\n"
        "<!-- machines --><!-- end -->\n"
    )
    return tmp_path


def run_benchmark(*, rate, quick=False):
    run = Results("attacks", quick=quick)
    run.add("rate", "Payments", rate, "per second", at_least=20)
    run.plot(TITLE, "ours", [(1_000, 1.0), (10_000, 4.0)])
    run.plot(TITLE, "one by one", [(1_000, 120.0), (10_000, 1200.0)])
    return run.finish()


def run_report(monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", ["report", *options])
    return report.main()


def test_figures_plots_and_missed_limits_of_a_run_are_written(docs, monkeypatch):
    assert run_benchmark(rate=12.345) == 1

    assert run_report(monkeypatch) == 0

    text = page.PATH.read_text()
    assert "Payments: <!-- figure attacks.rate -->12.3 per second<!-- end -->" in text
    assert "| Payments | 12.3 per second | **missed:** at least 20 |" in text
    assert "| attacks | Payments | 12.3 per second | at least 20 |" in text
    assert f"![{TITLE}](performance/attacks-1.svg)" in text
    assert f"{results.machine()['cores']} cores" in text
    assert run_report(monkeypatch, "--check") == 0


def test_quick_run_does_not_replace_figures(docs, monkeypatch):
    run_benchmark(rate=30)
    run_report(monkeypatch)
    before = page.PATH.read_text()
    run_benchmark(rate=50, quick=True)

    assert run_report(monkeypatch) == 0

    assert page.PATH.read_text() == before
    assert "All limits are kept." in before


@pytest.mark.parametrize(
    "block",
    [
        "<!-- figure attacks.burst --><!-- end -->",
        "<!-- figure storms.rate --><!-- end -->",
        "<!-- figures storms --><!-- end -->",
        "<!-- figures attacks burst_* --><!-- end -->",
        "<!-- figures --><!-- end -->",
    ],
    ids=["key", "benchmark", "table", "pattern", "nothing"],
)
def test_check_fails_for_a_figure_that_no_benchmark_makes(
    docs, monkeypatch, capsys, block
):
    run_benchmark(rate=30)
    run_report(monkeypatch)
    page.PATH.write_text(page.PATH.read_text() + block)

    assert run_report(monkeypatch, "--check") == 1

    assert capsys.readouterr().err


@pytest.mark.parametrize("name", ["performance.md", "attacks-1.svg"])
def test_check_fails_for_a_file_that_was_edited(docs, monkeypatch, capsys, name):
    run_benchmark(rate=30)
    run_report(monkeypatch)
    path = docs / name
    path.write_text(path.read_text().replace("30 per second", "3").replace("ours", "x"))

    assert run_report(monkeypatch, "--check") == 1

    assert name in capsys.readouterr().err


def test_benchmark_without_a_run_is_named_as_not_measured(docs, monkeypatch):
    page.PATH.write_text(
        "<!-- figure attacks.rate --><!-- end -->\n<!-- figures attacks --><!-- end -->"
    )

    assert run_report(monkeypatch) == 0

    text = page.PATH.read_text()
    assert "<!-- figure attacks.rate -->?<!-- end -->" in text
    assert "Not measured yet." in text


def test_plot_that_is_no_longer_made_is_removed(docs, monkeypatch):
    run_benchmark(rate=30)
    (docs / "attacks-2.svg").write_text("<svg/>")

    assert run_report(monkeypatch) == 0

    assert [path.name for path in docs.glob("*.svg")] == ["attacks-1.svg"]


def test_lines_of_a_plot_differ_by_dashes_and_are_named_where_they_end(docs):
    run_benchmark(rate=30)

    (svg,) = plots.draw_all(figures.merge()).values()

    texts = [each.text for each in ElementTree.fromstring(svg).iter() if each.text]
    assert {"ours", "one by one", "tenants"} <= set(texts)
    assert "stroke-dasharray" in svg
    assert "<script" not in svg
    assert "http://www.w3.org/2000/svg" in svg


def test_page_shows_figures_of_existing_benchmarks_only(docs):
    run_benchmark(rate=30)
    content = figures.merge()
    figures.PATH.write_text(json.dumps({**content, "removed": content["attacks"]}))

    assert figures.read() == content


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.01234, "0.0123"),
        (12.345, "12.3"),
        (123.4, "123"),
        (47_512, "47,512"),
    ],
)
def test_numbers_have_three_digits_or_are_whole(value, text):
    assert results.format_number(value) == text


def test_limits_include_their_bounds():
    assert Figure("", 2.0, at_most=2.0, at_least=2.0).is_kept
    assert not Figure("", 2.1, at_most=2.0).is_kept
    assert not Figure("", 1.9, at_least=2.0).is_kept
