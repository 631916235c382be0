"""Who has which GPU: one build at a time, what fits, in the order of the line, and always with the reason why not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from recorded import KINDS, said, text
from test_capabilities import device, host

from master.boards import Ahead, Refusals
from master.capabilities import GIB, Capabilities, GpuWanted
from master.leases import LONGEST_QUARANTINE_S, QUARANTINE_S, UNKNOWN, Leases, Ledger, Seen
from master.probe_facts import ProbeSaid, capabilities, read

A, B = "GPU-0a3c1d5e-5b1f-4c2a-9d3e-1f2a3b4c5d6e", "GPU-7f9e2b4c-8d6a-4e1b-b2c3-9a8b7c6d5e4f"


def wanted(**more: Any) -> GpuWanted:
    return GpuWanted.model_validate({"api": "cuda", **more})


def seen(what: str | Capabilities, after: float = 0.0) -> Seen:
    return Seen(host=capabilities(said(what), "linux") if isinstance(what, str) else what, after=after)


TWO = seen("two-boards")
ONE = seen(host(device("GPU-a", free=8)))


def had(found: Leases | Refusals) -> list[str]:
    assert not isinstance(found, Refusals), found
    return [lease.gpu for lease in found]


def refused(found: Leases | Refusals) -> tuple[str, ...]:
    assert isinstance(found, Refusals), found
    return found.reasons


def test_two_builds_get_different_boards_and_the_third_is_told_why_not() -> None:
    ledger = Ledger()
    assert had(ledger.reserve(1, "w", wanted(), TWO, 0)) == [A]
    assert had(ledger.reserve(2, "w", wanted(), TWO, 0)) == [B]
    assert refused(ledger.reserve(3, "w", wanted(), TWO, 0)) == (
        "has too few of its 2 fitting GPUs free, and 1 are needed",
        "GPU-0a3c1d5e… is held by build request 1",
        "GPU-7f9e2b4c… is held by build request 2",
    )
    ledger.release(1, 1)
    assert had(ledger.reserve(3, "w", wanted(), TWO, 1)) == [A]


def test_who_waits_is_told_what_the_holder_is() -> None:
    ledger = Ledger()
    ledger.reserve(1, "w", wanted(), ONE, 0, holder="run 12, build-linux (cuda)")
    assert refused(ledger.reserve(2, "w", wanted(), ONE, 0)) == ("GPU-a is held by run 12, build-linux (cuda)",)


def test_a_lease_tells_the_build_what_it_has() -> None:
    ledger = Ledger(shares=True)
    ledger.reserve(1, "w", wanted(api="vulkan", min_vram_gib=4), TWO, 7)
    (lease,) = ledger.begin(1, "w")
    assert lease.as_property() == {"id": A, "api": "vulkan", "index": 0, "memory": 4 * GIB}
    assert (lease.since, ledger.held()) == (7, [lease])


def test_a_board_of_a_host_with_two_workers_has_one_holder() -> None:
    ledger = Ledger()
    assert had(ledger.reserve(1, "trusted", wanted(), ONE, 0)) == ["GPU-a"]
    assert refused(ledger.reserve(2, "untrusted", wanted(), ONE, 0)) == ("GPU-a is held by build request 1",)


def test_boards_that_no_uuid_of_nvml_names_are_told_apart_by_their_host() -> None:
    """A Vulkan driver's uuid may be the place in the bus: the same on every host."""
    amd, vulkan = seen("radeon"), wanted(api="vulkan")
    ledger = Ledger(sites={"here-1": "this machine", "here-2": "this machine"})
    assert had(ledger.reserve(1, "here-1", vulkan, amd, 0)) == had(ledger.reserve(2, "elsewhere", vulkan, amd, 0))
    assert refused(ledger.reserve(3, "here-2", vulkan, amd, 0))


@pytest.mark.parametrize(
    ("fleet", "api", "reason"),
    [
        (
            "hogged",
            "cuda",
            "GPU-0a3c1d5e… is quarantined: 20.9 of 24.0 GiB are taken, and by no build of this master:"
            " process 562 (20.0 GiB)",
        ),
        ("unhealthy", "cuda", "GPU-0a3c1d5e… is quarantined: 3 uncorrected memory errors"),
        ("no-driver", "cuda", "has no cuda: no NVIDIA driver"),
        ("hanging-driver", "vulkan", "has no vulkan: hangs: no answer in 30 s"),
        ("radeon", "cuda", "has no cuda: no NVIDIA driver"),
        ("h100", "vulkan", "has no vulkan: no Vulkan loader"),
        ("lavapipe", "vulkan", "VK-6d6573613… is software (llvmpipe (LLVM 15.0.6, 256 bits))"),
    ],
)
def test_a_host_that_will_not_do_says_why(fleet: str, api: str, reason: str) -> None:
    assert refused(Ledger().reserve(1, "w", wanted(api=api), seen(fleet), 0)) == (reason,)


def test_a_split_board_is_left_alone() -> None:
    ledger = Ledger()
    assert had(ledger.reserve(1, "w", wanted(), seen("mig-and-whole"), 0)) == [B]
    assert "GPU-0a3c1d5e… is split by MIG, whose slices are not scheduled" in refused(
        ledger.reserve(2, "w", wanted(count=2), seen("mig-and-whole"), 0)
    )


def test_every_recorded_host_is_served_or_refused_with_a_reason() -> None:
    names = KINDS
    assert len(names) >= 10
    for name in names:
        for api in ("cuda", "vulkan"):
            found = Ledger().reserve(1, "w", wanted(api=api), seen(name), 0)
            assert not isinstance(found, Refusals) or (found.reasons and all(found.reasons)), name


def test_a_host_of_which_nothing_is_known_gets_nothing() -> None:
    assert Ledger().reserve(1, "w", wanted(), None, 0) == UNKNOWN


def test_what_a_build_left_running_is_named_by_its_number() -> None:
    said = read(text("hogged").replace('"memory": 21474836480', '"memory": 21474836480, "ours": true'))
    assert isinstance(said, ProbeSaid)
    (reason,) = refused(Ledger().reserve(1, "w", wanted(), seen(capabilities(said, "linux")), 0))
    assert reason.endswith("by no build of this master: process 562 (20.0 GiB), which a build left running")


def test_what_our_own_build_takes_is_no_hog() -> None:
    """The probe was asked while the build ran, and is all that is known when it has ended."""
    ledger, busy = Ledger(), host(device("GPU-a", free=0.5, total=24))
    assert had(ledger.reserve(1, "w", wanted(), seen(host(device("GPU-a", free=24, total=24))), 0)) == ["GPU-a"]
    ledger.release(1, 100)
    assert had(ledger.reserve(2, "w", wanted(min_vram_gib=20), seen(busy, after=50), 101)) == ["GPU-a"]
    ledger.release(2, 102)
    (said,) = refused(ledger.reserve(3, "w", wanted(), seen(busy, after=103), 104))
    assert said.endswith("23.5 of 24.0 GiB are taken, and by no build of this master"), "asked again after its end"


# -- shares


def test_builds_that_say_how_much_share_a_board_where_the_settings_allow_it() -> None:
    ledger = Ledger(shares=True)
    for request in (1, 2):
        assert had(ledger.reserve(request, "w", wanted(min_vram_gib=3), ONE, 0)) == ["GPU-a"]
    assert refused(ledger.reserve(3, "w", wanted(min_vram_gib=3), ONE, 0)) == (
        "GPU-a is held by build request 1 and build request 2",
    )
    assert had(ledger.reserve(4, "w", wanted(min_vram_gib=2), ONE, 0)) == ["GPU-a"]
    assert refused(ledger.reserve(5, "w", wanted(), ONE, 0)), "all of it, or nothing"
    whole = Ledger()
    assert had(whole.reserve(1, "w", wanted(min_vram_gib=3), ONE, 0)) == ["GPU-a"]
    assert refused(whole.reserve(2, "w", wanted(min_vram_gib=3), ONE, 0)), "shares are off by default"


def test_a_board_that_is_shared_already_is_filled_first() -> None:
    ledger = Ledger(shares=True)
    ledger.reserve(1, "w", wanted(min_vram_gib=3), TWO, 0)
    assert had(ledger.reserve(2, "w", wanted(min_vram_gib=3), TWO, 0)) == [A]
    assert had(ledger.reserve(3, "w", wanted(), TWO, 0)) == [B]


# -- giving back


def test_an_end_frees_its_own_lease_and_no_later_one_of_the_same_request() -> None:
    ledger = Ledger()
    ledger.reserve(1, "w", wanted(), ONE, 0)
    first = ledger.begin(1, "w")
    assert ledger.release(1, 1, only=first) == first
    ledger.reserve(1, "w", wanted(), ONE, 1)
    assert ledger.release(1, 2, only=first) == ()
    assert refused(ledger.reserve(2, "w", wanted(), ONE, 2))


def test_a_reservation_moves_with_its_request_until_its_build_begins() -> None:
    ledger, other = Ledger(), seen(host(device("GPU-b")))
    ledger.reserve(1, "w", wanted(), ONE, 0)
    assert had(ledger.reserve(1, "x", wanted(), other, 0)) == ["GPU-b"]
    assert had(ledger.reserve(2, "w", wanted(), ONE, 0)) == ["GPU-a"]
    assert ledger.begin(1, "w") == (), "that is not where it is"
    assert ledger.begin(1, "x")
    assert refused(ledger.reserve(1, "w", wanted(), ONE, 0)) == ("is building it already",)


def test_a_sweep_frees_what_no_build_has() -> None:
    ledger = Ledger()
    ledger.reserve(1, "w", wanted(), TWO, 0)
    ledger.reserve(2, "w", wanted(), TWO, 0)
    assert ledger.sweep({2, 7}, 1) == [1]
    assert [lease.request for lease in ledger.held()] == [2]


# -- quarantine


def test_a_fault_keeps_a_board_out_for_twice_as_long_each_time() -> None:
    ledger, now = Ledger(), 1000.0
    lasted = []
    for _ in range(12):
        until = ledger.quarantine("w", "GPU-a", "computes wrongly", now)
        lasted.append(until - now)
        assert refused(ledger.reserve(1, "w", wanted(), ONE, until - 1)) == ("GPU-a is quarantined: computes wrongly",)
        assert had(ledger.reserve(1, "w", wanted(), ONE, until)) == ["GPU-a"], "the next build tries it"
        ledger.release(1, until)
        now = until
    assert lasted[:3] == [QUARANTINE_S, 2 * QUARANTINE_S, 4 * QUARANTINE_S]
    assert lasted[-1] == LONGEST_QUARANTINE_S
    ledger.reserve(1, "w", wanted(), ONE, now)
    ledger.release(1, now + 1, good=True)
    assert ledger.quarantine("w", "GPU-a", "again", now + 2) == now + 2 + QUARANTINE_S, "it was in order meanwhile"


def test_a_good_end_of_a_build_that_began_before_the_fault_proves_nothing() -> None:
    ledger = Ledger(shares=True)
    ledger.reserve(1, "w", wanted(min_vram_gib=1), ONE, 0)
    until = ledger.quarantine("w", "GPU-a", "fault", 5)
    ledger.release(1, until + 1, good=True)
    assert ledger.quarantine("w", "GPU-a", "fault", until + 2) == until + 2 + 2 * QUARANTINE_S


def test_other_boards_of_the_host_are_used() -> None:
    ledger = Ledger()
    ledger.quarantine("w", A, "fault", 0)
    assert ledger.quarantined("w", 1) == {A: "fault"}
    assert had(ledger.reserve(1, "w", wanted(), TWO, 1)) == [B]


# -- who is ahead


def test_what_is_ahead_has_its_boards_kept_and_no_more() -> None:
    ledger = Ledger()
    assert had(ledger.reserve(1, "w", wanted(), TWO, 0, lambda: [Ahead(wanted=wanted())])) == [B]
    assert refused(ledger.reserve(2, "w", wanted(), TWO, 0, lambda: [Ahead(wanted=wanted())])) == (
        "has too few of its 2 fitting GPUs free, and 1 are needed",
        "GPU-0a3c1d5e… is kept for a more urgent build",
        "GPU-7f9e2b4c… is held by build request 1",
    )
    impossible = [Ahead(wanted=wanted(min_vram_gib=500))]
    assert had(ledger.reserve(2, "w", wanted(), TWO, 0, lambda: impossible)) == [A], "it never will be served here"


def test_one_that_needs_two_boards_is_not_overtaken_for_ever() -> None:
    ledger, both = Ledger(), wanted(count=2)
    ledger.reserve(1, "w", wanted(), TWO, 0)
    for drains in (False, True):
        found = ledger.reserve(2, "w", wanted(), TWO, 0, lambda drains=drains: [Ahead(wanted=both, drains=drains)])
        assert isinstance(found, Refusals) == drains
        ledger.release(2, 0)
    ledger.release(1, 1)
    assert len(had(ledger.reserve(3, "w", both, TWO, 1))) == 2


def test_a_preview_reserves_nothing() -> None:
    ledger = Ledger()
    for _ in range(2):
        found = ledger.preview("w", wanted(), ONE, 0)
        assert not isinstance(found, Refusals)
        assert [each.id for each in found] == ["GPU-a"]
    assert ledger.held() == []


def test_the_smallest_board_that_will_do_is_chosen() -> None:
    mixed = host(device("GPU-big", free=80, total=80), device("GPU-small", free=8))
    assert had(Ledger().reserve(1, "w", wanted(), seen(mixed), 0)) == ["GPU-small"]
    assert had(Ledger().reserve(1, "w", wanted(min_vram_gib=10), seen(mixed), 0)) == ["GPU-big"]
    sick = replace(mixed, devices=(mixed.devices[0], replace(mixed.devices[1], ailing=("3 uncorrected errors",))))
    assert had(Ledger().reserve(1, "w", wanted(), seen(sick), 0)) == ["GPU-big"]
