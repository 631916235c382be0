"""A good wheel damaged at random: the gate always answers with a verdict, soon, and never with anything else."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wheel_corpus import Draft, linux, windows
from wheel_natives import Natives

from workers.wheel.bounds import Bounds
from workers.wheel.checks import CHECKS
from workers.wheel.expectations import merged
from workers.wheel.symbols import Offer
from workers.wheel.verify import verify

pytestmark = pytest.mark.slow

EXPECTED = merged({}, {"package": "sample", "exclude": ["libtvm_ffi.so", "tvm_ffi.dll"]})
NOTHING = Offer(elf=frozenset(), dlls={})
SECONDS = 10

#: Where to damage (as a share of the length), what to do there, with which bytes.
DAMAGE = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["replace", "insert", "remove", "cut", "repeat"]),
        st.one_of(
            st.binary(min_size=1, max_size=16), st.sampled_from([b"\0" * 8, b"\xff" * 8, b"PK\1\2", b"PK\5\6", b".."])
        ),
    ),
    min_size=1,
    max_size=6,
)
Damage = list[tuple[float, str, bytes]]


def damaged(data: bytes, damage: Damage) -> bytes:
    for share, how, new in damage:
        at = int(share * len(data))
        if how == "replace":
            data = data[:at] + new + data[at + len(new) :]
        elif how == "insert":
            data = data[:at] + new + data[at:]
        elif how == "remove":
            data = data[:at] + data[at + len(new) :]
        elif how == "cut":
            data = data[:at]
        else:
            data = data[:at] + data[at : at + 64] * len(new) + data[at:]
    return data


@pytest.fixture(scope="session")
def natives(tmp_path_factory: pytest.TempPathFactory) -> Natives:
    return Natives(tmp_path_factory.mktemp("natives"))


def answered(path: Path) -> set[str]:
    began = time.monotonic()
    verdict = verify(path, EXPECTED, Bounds(), NOTHING)
    assert time.monotonic() - began < SECONDS
    found = {finding.check for finding in verdict.findings}
    assert found <= set(CHECKS) and verdict.exit_code in (0, 1, 2)
    return found


def draft_of(natives: Natives, system: str) -> Draft:
    return (linux if system == "linux" else windows)(natives)


PROFILE = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.mark.parametrize("system", ["linux", "windows"])
def test_damaged_bytes_of_the_file(system: str, natives: Natives, tmp_path: Path) -> None:
    whole = cache(lambda: draft_of(natives, system).write(tmp_path))()
    data = whole.read_bytes()

    @PROFILE
    @given(DAMAGE)
    def check(damage: Damage) -> None:
        changed = damaged(data, damage)
        whole.write_bytes(changed)
        found = answered(whole)
        assert found or changed == data or _same_members(changed, data), "damage that nothing noticed"

    check()


def _same_members(one: bytes, other: bytes) -> bool:
    """Damage to what nobody reads: times and attributes."""
    import io
    import zipfile

    def read(data: bytes) -> list[tuple[str, bytes]]:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return [(info.filename, archive.read(info)) for info in archive.infolist()]

    return read(one) == read(other)


@pytest.mark.parametrize("system", ["linux", "windows"])
@pytest.mark.parametrize("member", ["library", "METADATA", "WHEEL", "RECORD"])
def test_damaged_members_that_record_agrees_with(system: str, member: str, natives: Natives, tmp_path: Path) -> None:
    draft = draft_of(natives, system)
    names = dict(draft.all_members())
    name = next(n for n in names if n.endswith((".so", ".dll") if member == "library" else f"/{member}"))

    @PROFILE
    @given(DAMAGE)
    def check(damage: Damage) -> None:
        broken = draft_of(natives, system)
        if member == "library":
            broken.members[name] = damaged(names[name], damage)
        else:
            broken.texts[member] = damaged(names[name], damage).decode("utf-8", "replace")
        answered(broken.write(tmp_path))

    check()
