"""How often GitHub is asked, played through with a clock of the test's own."""

from __future__ import annotations

import pytest

from master.github.pace import NEVER, Pace


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> Pace:
    return Pace(clock, lambda: 1.0)


def test_a_few_at_once_and_then_one_a_second(pace: Pace, clock: Clock) -> None:
    sent = 0
    until = clock.now + 60
    while clock.now < until:
        wait = pace.wait()
        if wait:
            clock.now += wait
        else:
            pace.take()
            sent += 1
    assert sent == pytest.approx(70, abs=1)


def test_a_clock_that_is_set_back_stops_nothing(pace: Pace, clock: Clock) -> None:
    assert pace.wait() == 0
    clock.now -= 900
    assert pace.wait() == 0
    for _ in range(10):
        pace.take()
    assert pace.wait() == 1
    clock.now += 1
    assert pace.wait() == 0


def test_an_outage_of_an_hour_takes_few_attempts_and_its_end_is_seen_soon(pace: Pace, clock: Clock) -> None:
    asked = []
    until = clock.now + 3600
    while clock.now < until:
        asked.append(clock.now)
        pace.take()
        pace.unavailable(None, 0)
        assert pace.wait() > 0
        clock.now += pace.wait()
    assert len(asked) < 40
    assert clock.now - asked[-1] <= 120
    pace.succeeded("status")
    assert pace.wait() == 0


def test_what_github_says_of_when_is_heeded_for_everything(pace: Pace, clock: Clock) -> None:
    assert pace.unavailable(90.0, 0) == clock.now + 90
    assert pace.wait() == 90
    clock.now += 90
    assert pace.wait() == 0
    for _ in range(10):
        pace.unavailable(1.0, 0)
    assert pace.wait() > 10, "a limit that never ends is not believed"


def test_no_access_stops_one_kind_only(pace: Pace, clock: Clock) -> None:
    row = pace.no_access("comment", 0)
    assert pace.open(["status", "comment"]) == ["status"]
    assert pace.wait() == 0
    assert pace.wait_for(["comment"]) == 60
    assert row > clock.now + 60, "others of its kind have their turn before it"
    for _ in range(20):
        pace.no_access("comment", 50)
    assert pace.wait_for(["comment"]) == 3600
    pace.succeeded("comment")
    assert pace.open(["comment"]) == ["comment"]


def test_a_row_that_is_refused_is_tried_ever_more_rarely_and_given_up_in_the_end(pace: Pace, clock: Clock) -> None:
    pauses = [pace.refused(failures) - clock.now for failures in range(7)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (60, 86400)
    assert pace.refused(7) == NEVER
    assert sum(pauses) / 86400 == pytest.approx(2, abs=0.1), "days: the documentation says about two"


def test_a_row_that_always_fails_does_not_hold_up_the_others(pace: Pace, clock: Clock) -> None:
    again = pace.unavailable(None, 6)
    pace.succeeded("status")
    assert pace.wait() == 0
    assert again == clock.now + 64
    assert pace.unavailable(None, 500) == clock.now + 300
