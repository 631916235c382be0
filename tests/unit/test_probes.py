"""The master asks its workers what their hosts have: a real table, connections that answer when the test says."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from recorded import said, text
from settings_sample import read, usable
from stored import Pool
from twisted.internet import defer
from twisted.internet.task import Clock

from master.capabilities import GpuWanted
from master.database import probes
from master.gate import Gate
from master.pipeline import Requires
from master.probe_facts import Unreadable
from master.probes import Probes

CUDA = Requires(gpu=GpuWanted(api="cuda"))
WORKERS = """
[workers.{}]
trust = "trusted"
"""


class Connection:
    """Of a worker, whose ``info/`` the test writes."""

    def __init__(self, probe: str | None) -> None:
        self.probe = probe
        self.info = self._info()
        self.hangs = False
        self.waiting: list[defer.Deferred[Any]] = []
        self.asked = 0

    def _info(self) -> dict[str, Any]:
        return {"version": "4.3", **({} if self.probe is None else {"probe.json": self.probe})}

    def remoteGetWorkerInfo(self) -> defer.Deferred[Any]:
        self.asked += 1
        if not self.hangs:
            return defer.succeed(self._info())
        self.waiting.append(defer.Deferred())
        return self.waiting[-1]


class Site:
    """A master of which there is only what the service reads."""

    def __init__(self, database: Callable[..., Any], *more: str, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.clock.advance(1000.0)
        self.database = database
        self.workers: dict[str, Any] = {}
        self.told = 0
        self.consumers: list[Callable[..., None]] = []
        scheduler = SimpleNamespace(capacity_changed=self.changed)
        self.master = SimpleNamespace(
            reactor=self.clock,
            db=SimpleNamespace(pool=Pool(database)),
            mq=SimpleNamespace(startConsuming=self.consume),
            workers=SimpleNamespace(workers=self.workers),
            scheduler_manager=SimpleNamespace(namedServices={"pipeline": scheduler}),
        )
        self.gate = Gate()
        self.service = Probes(settings=usable(read(*more)), gate=self.gate)
        self.service.parent = SimpleNamespace(master=self.master)
        self.configure(*more)

    def configure(self, *more: str) -> None:
        done: list[Any] = []
        self.service.reconfigService(settings=usable(read(*more)), gate=self.gate).addBoth(done.append)
        assert done == [None]

    def changed(self) -> None:
        self.told += 1

    async def consume(self, callback: Callable[..., None], pattern: tuple[Any, ...]) -> Any:
        assert pattern == ("workers", None, None)
        self.consumers.append(callback)
        return SimpleNamespace(stopConsuming=lambda: self.consumers.remove(callback))

    def attach(self, name: str, probe: str | None) -> Connection:
        connection = Connection(probe)
        self.workers[name] = SimpleNamespace(conn=connection)
        self.hear(name, "connected")
        return connection

    def leave(self, name: str) -> None:
        self.workers[name].conn = None
        self.hear(name, "disconnected")

    def hear(self, name: str, what: str) -> None:
        for callback in self.consumers:
            callback(("workers", "1", what), {"name": name, "workerid": 1})

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([0.5] * int(seconds * 2))

    def why(self, name: str = "here") -> list[str]:
        return self.gate.hosts.refusals(CUDA, name)

    def row(self, name: str = "here") -> probes.Row:
        return self.database(probes.every)[name]  # type: ignore[no-any-return]


def again(kind: str, at: float) -> str:
    return json.dumps({**json.loads(text(kind)), "at": at})


def test_what_comes_with_a_worker_is_known_at_once(database: Callable[..., Any]) -> None:
    site = Site(database)
    assert site.why() == ["has not said yet what it has"]
    site.attach("here", text("h100"))
    assert site.why() == []
    assert site.told == 1, "who waits for such a host is told"
    assert (site.row().said, site.row().read_at) == (said("h100"), 1000.0)


def test_it_is_read_again_on_a_timer_and_news_are_told(database: Callable[..., Any]) -> None:
    site = Site(database)
    connection = site.attach("here", text("no-driver"))
    assert site.why() == ["has no cuda: no NVIDIA driver"]
    site.pass_time(3)
    asked, told = connection.asked, site.told
    connection.probe = text("h100")
    site.pass_time(50)
    assert (connection.asked, site.told) == (asked, told), "not before its time"
    site.pass_time(12)
    assert connection.asked == asked + 1
    assert (site.why(), site.told, site.row().said) == ([], told + 1, said("h100"))
    site.pass_time(200)
    assert site.told == told + 1, "what stays as it is, is no news"


def test_the_interval_is_the_settings(database: Callable[..., Any]) -> None:
    site = Site(database, '[gpus]\nprobe_interval = "5m"')
    connection = site.attach("here", text("h100"))
    site.pass_time(10)
    asked = connection.asked
    site.pass_time(250)
    assert connection.asked == asked
    site.configure('[gpus]\nprobe_interval = "10s"')
    site.pass_time(100)
    assert connection.asked > asked + 3


def test_a_worker_that_has_just_started_is_asked_again_soon(database: Callable[..., Any]) -> None:
    site = Site(database)
    connection = site.attach("here", None)
    assert site.why() == ["has not said yet what it has"]
    connection.probe = text("h100")
    site.pass_time(4)
    assert site.why() == []


def test_one_that_never_says_anything_is_asked_less_and_less(database: Callable[..., Any]) -> None:
    site = Site(database)
    connection = site.attach("here", None)
    site.pass_time(600)
    assert 8 <= connection.asked <= 20


def test_a_worker_that_hangs_holds_up_nobody_for_long(database: Callable[..., Any]) -> None:
    site = Site(database)
    hanging, other = site.attach("here", text("h100")), site.attach("there", text("no-driver"))
    hanging.hangs = True
    site.pass_time(5)
    other.probe = text("h100")
    assert site.why("there") != []
    site.pass_time(85)
    assert site.why("there") == []
    assert len(hanging.waiting) >= 1
    assert all(asked.called for asked in hanging.waiting[:-1]), "one question at a time"
    assert site.why() == [], "what it said last still holds"
    site.pass_time(1300)
    assert "has said nothing new of what it has for" in site.why()[0]
    assert site.why("there") != [], "as does one whose file stays the same for so long"


def test_a_late_answer_is_no_answer(database: Callable[..., Any]) -> None:
    site = Site(database)
    connection = site.attach("here", text("no-driver"))
    connection.hangs = True
    site.pass_time(1)
    late = connection.waiting[0]
    site.pass_time(12)
    late.callback({"probe.json": text("h100")})
    assert site.why() == ["has no cuda: no NVIDIA driver"]


def test_a_stopped_service_asks_nobody(database: Callable[..., Any]) -> None:
    site = Site(database)
    connection = site.attach("here", text("h100"))
    connection.hangs = True
    site.pass_time(1)
    site.service.stopService()
    asked = connection.asked
    site.pass_time(200)
    assert (connection.asked, site.consumers, site.clock.getDelayedCalls()) == (asked, [], [])


def test_one_that_leaves_is_not_known_and_what_it_said_stays_to_be_seen(database: Callable[..., Any]) -> None:
    site = Site(database)
    site.attach("here", text("h100"))
    site.leave("here")
    assert site.why() == ["has not said yet what it has"]
    assert site.row().said == said("h100")


@pytest.mark.parametrize("restarted", [True, False])
def test_the_same_words_do_not_grow_young_by_coming_again(database: Callable[..., Any], restarted: bool) -> None:
    """Neither when the master starts anew nor when the worker does: a probe that hangs there is as old as it is."""
    site = Site(database)
    site.attach("here", text("h100"))
    site.pass_time(1100)
    if restarted:
        site = Site(database, clock=site.clock)  # a thousand seconds later
    else:
        site.leave("here")
        site.pass_time(200)
    site.attach("here", text("h100"))
    assert "has said nothing new" in site.why()[0]
    site.leave("here")
    site.attach("here", again("h100", at=9e8))
    assert site.why() == [], "the negative control: another probe"


@pytest.mark.parametrize("words", ["{}", "[" * 300000, text("h100").replace('"format": 1', '"format": 2')])
def test_nonsense_is_kept_as_nothing_with_the_reason(database: Callable[..., Any], words: str) -> None:
    site = Site(database)
    connection = site.attach("here", text("h100"))
    connection.probe = words
    site.pass_time(100)
    row = site.row()
    assert isinstance(row.said, Unreadable)
    assert site.why() == [row.said.reason]


def test_who_is_not_in_the_settings_is_nobody(database: Callable[..., Any]) -> None:
    site = Site(database, WORKERS.format("third"))
    site.attach("third", text("h100"))
    site.attach("in-master", text("h100"))
    assert set(site.database(probes.every)) == {"third"}
    site = Site(database)
    assert set(site.database(probes.every)) == set(), "a master forgets those that the settings no longer have"


def test_a_new_gate_knows_what_the_old_one_knew(database: Callable[..., Any]) -> None:
    site = Site(database)
    site.attach("here", text("h100"))
    site.gate = Gate()
    assert site.why() != []
    site.configure()
    assert site.why() == []


def test_when_a_host_was_asked_is_known_from_below(database: Callable[..., Any]) -> None:
    """What builds held since then, they may have used when the host was asked."""
    site = Site(database)
    connection = site.attach("here", text("h100"))
    assert site.gate.hosts.taken("here") == 0.0
    site.pass_time(200)
    connection.probe = again("h100", at=9e8)
    before = site.clock.seconds()
    site.pass_time(61)
    taken = site.gate.hosts.taken("here")
    assert before - 61 <= taken <= before
