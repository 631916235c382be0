"""What a worker says of itself, read at the master: all of it right, or nothing and a reason."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from master.capabilities import Capabilities
from master.probe_facts import ProbeSaid, Unreadable, capabilities, read
from workers.probe.facts import (
    WITHIN,
    Absence,
    CudaDevice,
    Gpu,
    Heap,
    Host,
    Probe,
    Problem,
    Process,
    Tool,
    VulkanDevice,
)

HOST = Host(system="linux", release="Debian", kernel="6.1", machine="x86_64", cores=2, memory_total=1, disk_free=0)
CUDA = CudaDevice(
    index=0, pci="0", memory_total=80, memory_free=70, compute="9.0", cuda="13.0", mig=False, recovery="none",
    processes=(Process(pid=1, memory=None),),
)  # fmt: skip
HEAPS = (
    Heap(size=5, device_local=True),
    Heap(size=50, device_local=True, budget=40),
    Heap(size=99, device_local=False),
)
VULKAN = VulkanDevice(
    index=0, kind="discrete", api="1.3.0", driver="d", vendor_id=1, device_id=1, uuid="ab" * 16, heaps=HEAPS
)
BOTH = Gpu(id="GPU-1", name="n", vendor="nvidia", cuda=CUDA, vulkan=VULKAN)
PROBE = Probe(
    at=1.5, took=0, host=HOST,
    tools=(Tool(name="cmake", version="3.25.1", path="/usr/bin/cmake"),),
    gpus=(BOTH, Gpu(id="VK-0", name="v", vendor="0x1af4", vulkan=VULKAN)),
    absent=(Absence(part="vulkan", why="none"),),
    problems=(Problem(part="docker", what="first"), Problem(part="docker", what="second")),
)  # fmt: skip


def reason(said: object) -> str:
    found = read(said)
    assert isinstance(found, Unreadable), found
    assert found.reason.isprintable() and len(found.reason) <= 200
    return found.reason


def without(said: dict[str, Any], path: str, value: object) -> str:
    """The JSON with another value at a path of keys and numbers; ``...``: with none."""
    *parents, last = path.split(".")
    place: Any = said
    for step in parents:
        place = place[int(step) if step.isdecimal() else step]
    if value is ...:
        del place[last]
    else:
        place[int(last) if last.isdecimal() else last] = value
    return json.dumps(said)


def test_what_the_probe_writes_is_read() -> None:
    said = read(PROBE.as_json())
    assert isinstance(said, ProbeSaid)
    assert said.model_dump() == asdict(PROBE)


def test_it_becomes_what_the_matcher_asks() -> None:
    said = read(PROBE.as_json())
    assert isinstance(said, ProbeSaid)
    found = capabilities(said, "windows", frozenset({"compiler"}))
    assert (found.os, found.provides, found.tools) == ("windows", {"compiler"}, {"cmake": "3.25.1"})
    assert found.broken == {"vulkan": "none", "docker": "first"}
    board, other = found.devices
    assert (board.id, board.apis) == ("GPU-1", {"cuda": "13.0", "vulkan": "1.3.0"})
    assert (board.memory_total, board.memory_free, board.compute, board.ailing) == (80, 70, "9.0", ())
    assert (other.apis, other.memory_total, other.memory_free) == ({"vulkan": "1.3.0"}, 50, 40)


@pytest.mark.parametrize(
    ("change", "sign"),
    [
        ({"ecc_uncorrected": 2}, "2 uncorrected memory errors"),
        ({"remap_failed": True}, "rows of its memory could not be remapped"),
        ({"remap_pending": True}, "bad memory waits for a reset"),
        ({"retired_pending": True}, "bad memory waits for a reset"),
        ({"recovery": "reset"}, "its driver asks for: reset"),
        ({"remapped_rows": 3, "retired_pages": 1}, None),  # done with
    ],
)
def test_signs_of_bad_health_are_told(change: dict[str, object], sign: str | None) -> None:
    said = asdict(PROBE)
    said["gpus"][0]["cuda"] |= change
    found = read(json.dumps(said))
    assert isinstance(found, ProbeSaid)
    assert capabilities(found, "linux").devices[0].ailing == ((sign,) if sign else ())


def test_nothing_said_is_nothing_known() -> None:
    assert reason(None) == "has not said yet what it has"


@pytest.mark.parametrize("said", [b"{}", {}, 1, ["x"]])
def test_what_is_no_text_is_refused(said: object) -> None:
    assert reason(said) == "says no text of what it has"


@pytest.mark.parametrize("said", ["", "{", "null", "[]", "\ud800", "[" * 100_000, "1" * 5000, '{"format": NaN}'])
def test_what_is_no_probe_is_refused(said: str) -> None:
    reason(said)


def test_too_much_is_not_even_parsed() -> None:
    said = PROBE.as_json()
    padded = said + " " * (WITHIN.size - len(said))
    assert isinstance(read(padded), ProbeSaid)
    assert reason(padded + " ") == f"says {WITHIN.size + 1} characters of what it has, and {WITHIN.size} are read"


@pytest.mark.parametrize("number", [2, "1", None, ...])
def test_another_format_is_said(number: object) -> None:
    assert "in another format than 1" in reason(without(asdict(PROBE), "format", number))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("host.cores", 0),
        ("host.cores", True),
        ("host.cores", "2"),
        ("host.cores", 2.5),
        ("host", None),
        ("host.release", ...),
        ("host.release", "x" * 301),
        ("host.release", "two\nlines"),
        ("host.release", "\x1b[31m"),
        ("host.memory_total", -1),
        ("host.memory_total", 1 << 61),
        ("at", -1),
        ("tools", {}),
        ("tools.0.version", "3.25; rm"),
        ("tools.0.version", "3.25\n"),
        ("tools.0.version", ""),
        ("tools.0.name", "a b"),
        ("gpus.0.id", "GPU-1,GPU-2"),
        ("gpus.0.id", "GPU-1\n"),
        ("gpus.0.id", ""),
        ("gpus.0.id", "VK-0"),  # as the other
        ("gpus.0.id", "x" * 65),
        ("gpus.0.cuda.compute", "9.x"),
        ("gpus.0.cuda.mig", 1),
        ("gpus.0.cuda.processes", [{"pid": 1, "memory": None}] * (WITHIN.processes + 1)),
        ("gpus.0.vulkan.kind", "imaginary"),
        ("gpus.0.vulkan.uuid", "AB" * 16),
        ("gpus.0.vulkan.heaps", [{"size": 1, "device_local": True, "budget": None}] * (WITHIN.heaps + 1)),
        ("problems", [{"part": "a", "what": "b"}] * (WITHIN.problems + 1)),
        ("tools", [{"name": "a", "version": "1", "path": ""}] * 2),
        ("absent", [{"part": "a", "why": ""}] * 9),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_its_place(path: str, value: object) -> None:
    said = reason(without(asdict(PROBE), path, value))
    assert path.rpartition(".")[2] in said or "twice" in said


def test_what_is_not_known_is_ignored() -> None:
    said = asdict(PROBE)
    said["host"]["colour"] = {"any": ["thing"]}
    assert isinstance(read(json.dumps(said)), ProbeSaid)


def test_the_largest_that_is_written_is_read() -> None:
    """Every text and list at its bound: the worker cannot write what the master refuses for its size."""
    text, size = '"' * WITHIN.text, 1 << 60
    process = Process(pid=1 << 32, memory=size)
    cuda = CudaDevice(
        index=64, pci=text, memory_total=size, memory_free=size, compute="9.0", driver=text, cuda="13.0", mig=False,
        mig_slices=7, ecc_uncorrected=size, retired_pages=1 << 32, retired_pending=False, remapped_rows=1 << 32,
        remap_pending=False, remap_failed=False, recovery=text, processes=(process,) * WITHIN.processes,
    )  # fmt: skip
    heap = Heap(size=size, device_local=False, budget=size)
    vulkan = VulkanDevice(
        index=64, kind="integrated", api="1.3.4095", driver=text, vendor_id=1 << 32, device_id=1 << 32,
        uuid="f" * 32, driver_uuid="f" * 32, heaps=(heap,) * WITHIN.heaps,
    )  # fmt: skip
    gpus = [Gpu(id=f"{n:064}", name=text, vendor="n" * 64, cuda=cuda, vulkan=vulkan) for n in range(WITHIN.gpus)]
    tools = [Tool(name=f"t{n:063}", version="123456789." * 5 + "1", path=text) for n in range(WITHIN.tools)]
    problems = (Problem(part="p" * 64, what=text),) * WITHIN.problems
    whole = Probe(at=1.0, took=1.0, host=HOST, tools=tuple(tools), gpus=tuple(gpus), problems=problems)
    assert len(whole.as_json()) < WITHIN.size
    assert isinstance(read(whole.as_json()), ProbeSaid)


_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_JSON = st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))


@given(_JSON | st.binary() | st.text())
@example(json.dumps({"format": 1}))
def test_nothing_that_is_said_raises(said: object) -> None:
    for each in (said, json.dumps(said) if not isinstance(said, bytes) else said.decode("latin-1")):
        found = read(each)
        assert isinstance(found, Unreadable)
        assert len(found.reason) <= 200


def paths(said: Any, before: tuple[str, ...] = ()) -> list[str]:
    inner = said.items() if isinstance(said, dict) else enumerate(said) if isinstance(said, list | tuple) else ()
    here = [".".join(before)] if before else []
    return [*here, *(path for key, value in inner for path in paths(value, (*before, str(key))))]


@given(st.sampled_from(paths(json.loads(PROBE.as_json()))), _JSON)
def test_one_place_changed_at_random_is_read_right_or_not_at_all(path: str, value: object) -> None:
    found = read(without(json.loads(PROBE.as_json()), path, value))
    if isinstance(found, ProbeSaid):
        assert isinstance(capabilities(found, "linux"), Capabilities)
    else:
        assert found.reason
