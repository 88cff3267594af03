from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from relays.services.end_of_life.dates import (
    Dates,
    Step,
    Terms,
    first_dates,
    next_step,
)

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
TERMS = Terms(timedelta(days=30), timedelta(days=60))
OFF = replace(TERMS, deletes=False)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def on_day(days):
    return NOW + timedelta(days=days)


def warned(told_at, deletion_at=None):
    return Dates(on_day(30), on_day(30), deletion_at or on_day(60), True, told_at)


def test_suspension_sets_both_dates():
    assert first_dates(NOW, TERMS) == Dates(on_day(30), None, on_day(60))


def test_without_deletion_only_the_offer_has_a_date():
    assert first_dates(NOW, OFF) == Dates(on_day(30))


def test_nothing_happens_before_the_offer():
    dates = first_dates(NOW, TERMS)

    assert next_step(dates, on_day(30) - HOUR, TERMS) == (Step.WAIT, dates)


def test_offer_on_its_date_leaves_the_deletion_where_it_is():
    step, dates = next_step(first_dates(NOW, TERMS), on_day(30), TERMS)

    assert step == Step.OFFER_EXPORT
    assert dates == Dates(on_day(30), on_day(30), on_day(60))


def test_late_offer_moves_the_deletion():
    step, dates = next_step(first_dates(NOW, TERMS), on_day(50), TERMS)

    assert step == Step.OFFER_EXPORT
    assert dates == Dates(on_day(30), on_day(50), on_day(80))


def test_offer_is_made_once():
    _, offered = next_step(first_dates(NOW, TERMS), on_day(30), TERMS)

    assert next_step(offered, on_day(31), TERMS) == (Step.WAIT, offered)


def test_offer_comes_before_the_warning_however_late_both_are():
    step, dates = next_step(first_dates(NOW, TERMS), on_day(90), TERMS)

    assert step == Step.OFFER_EXPORT
    assert dates.deletion_at == on_day(120)


def test_offer_without_deletion_sets_no_date():
    step, dates = next_step(first_dates(NOW, OFF), on_day(30), OFF)

    assert step == Step.OFFER_EXPORT
    assert dates == Dates(on_day(30), on_day(30))


def test_deletion_is_announced_a_week_before():
    dates = Dates(on_day(30), on_day(30), on_day(60))

    step, announced = next_step(dates, on_day(53), TERMS)

    assert next_step(dates, on_day(53) - HOUR, TERMS) == (Step.WAIT, dates)
    assert step == Step.ANNOUNCE_DELETION
    assert announced == replace(dates, is_announced=True)


def test_late_warning_moves_the_deletion():
    dates = Dates(on_day(30), on_day(30), on_day(60))

    step, announced = next_step(dates, on_day(58), TERMS)

    assert step == Step.ANNOUNCE_DELETION
    assert announced == replace(dates, deletion_at=on_day(65), is_announced=True)


def test_relay_is_deleted_on_the_announced_date():
    dates = warned(told_at=on_day(53))

    assert next_step(dates, on_day(60) - HOUR, TERMS) == (Step.WAIT, dates)
    assert next_step(dates, on_day(60), TERMS) == (Step.DELETE, dates)


@pytest.mark.parametrize("told_at", [None, on_day(57)], ids=["never", "late"])
def test_owner_who_was_not_told_in_time_gets_another_month(told_at):
    step, dates = next_step(warned(told_at), on_day(60), TERMS)

    assert step == Step.POSTPONE
    assert dates == Dates(on_day(30), on_day(30), on_day(90))


@pytest.mark.parametrize(
    ("late", "expected"), [(DAY - HOUR, Step.DELETE), (DAY, Step.POSTPONE)]
)
def test_deletion_that_comes_late_gets_another_date(late, expected):
    step, _ = next_step(warned(on_day(53)), on_day(60) + late, TERMS)

    assert step == expected


def test_postponed_deletion_is_announced_again():
    _, dates = next_step(warned(None), on_day(60), TERMS)

    step, _ = next_step(dates, on_day(83), TERMS)

    assert step == Step.ANNOUNCE_DELETION


def test_switching_deletion_off_takes_the_date_back():
    step, dates = next_step(warned(on_day(53)), on_day(60), OFF)

    assert (step, dates) == (Step.WAIT, Dates(on_day(30), on_day(30)))


@pytest.mark.parametrize(
    ("switched_on_at", "deletion_at"), [(10, 60), (40, 70), (400, 430)]
)
def test_switching_deletion_on_sets_a_date_ahead(switched_on_at, deletion_at):
    offered_at = on_day(30) if switched_on_at > 30 else None
    dates = Dates(on_day(30), offered_at)

    step, dates = next_step(dates, on_day(switched_on_at), TERMS)

    assert dates.deletion_at == on_day(deletion_at)
    # The offer is made again, since the first one named no date.
    assert (step == Step.OFFER_EXPORT) == (switched_on_at > 30)


def test_relay_suspended_before_there_were_dates_gets_them_from_now_on():
    assert next_step(Dates(), NOW, TERMS) == (Step.WAIT, first_dates(NOW, TERMS))


@pytest.mark.parametrize("days", [1, 400])
def test_other_settings_do_not_make_an_announced_date_earlier(days):
    other = Terms(timedelta(days=days), timedelta(days=days + 1))
    dates = Dates(on_day(30), on_day(30), on_day(60))

    assert next_step(dates, on_day(31), other) == (Step.WAIT, dates)


def test_shorter_settings_do_not_make_the_date_of_a_late_offer_earlier():
    shorter = Terms(30 * DAY, 35 * DAY)
    dates = Dates(on_day(30), None, on_day(60))

    step, offered = next_step(dates, on_day(40), shorter)

    assert (step, offered.deletion_at) == (Step.OFFER_EXPORT, on_day(60))


def test_warning_is_as_early_as_a_short_time_allows():
    terms = Terms(DAY, 2 * DAY)
    _, offered = next_step(first_dates(NOW, terms), on_day(1), terms)

    step, dates = next_step(offered, on_day(1) + HOUR, terms)

    assert step == Step.ANNOUNCE_DELETION
    assert dates.deletion_at == on_day(2) + HOUR
