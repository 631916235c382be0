"""What an artifact may be called: whatever is accepted is one file, here and on any other system."""

from __future__ import annotations

import ntpath
import posixpath
import string
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from master.artifacts.names import LONGEST, UnsafeName, artifact_name, build_folder, folded

GOOD = [
    "mlc_llm-0.2.0-py3-none-manylinux_2_28_x86_64.whl",
    "a.tar.gz",
    "report für März.xml",
    "模型.bin",
    ".coverage",
    "a b",
    "con-fig",
    "nullable.txt",
    "x" * LONGEST,
]
HOSTILE = [
    *("", ".", "..", "../x", "a/../b", "/etc/passwd", "a/b"),
    *("..\\x", "C:\\x", "C:x", "\\\\host\\share\\x", "//host/share", "a\\b", "x:stream"),
    *("a\0b", "a\nb", "a\x7f", "a\x85b", "a\u2028b", "a\u200bb", "a\u202egnp.exe", "\ufeffx", "a\ud800"),
    *("．．", "a／b", "a＼b", "Ａ.whl", "ﬁle", "x\u00a0", "e\u0301", "a\ufffd"),  # NFKC of these is another text
    *("con", "CON", "nul.txt", "NUL.tar.gz", "com1", "LPT9.log", "aux ", "aux .txt", "prn.", "conin$", "COM¹"),
    *("a.", "a ", " a", "a. ", "x" * (LONGEST + 1), "é" * LONGEST),
    *('a"b', "a<b", "a|b", "a?b", "a*b"),
]
#: Texts in which what is dangerous is frequent.
TEXTS = st.text(
    st.one_of(
        st.sampled_from("./\\:* \0\n\u202e．／＼ＣcCoOnN1.é\u0301\u00a0"),
        st.characters(),
        st.sampled_from(string.ascii_letters),
    )
)


@pytest.mark.parametrize("name", GOOD)
def test_a_name_stays_as_it_is(name: str) -> None:
    assert artifact_name(name) == name


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_leads_elsewhere_is_refused_with_a_reason(name: str) -> None:
    with pytest.raises(UnsafeName, match="cannot be the name of an artifact: it "):
        artifact_name(name)


def accepted(text: str) -> bool:
    try:
        artifact_name(text)
    except UnsafeName:
        return False
    return True


@given(TEXTS)
@example("..")
@example("a" * 201)
def test_what_is_accepted_is_one_file_of_its_folder_on_every_system(text: str) -> None:
    if not accepted(text):
        return
    assert PurePosixPath("/root", text).parts == ("/", "root", text)
    assert PureWindowsPath("C:/root", text).parts == ("C:\\", "root", text)
    assert ntpath.normpath("C:\\root\\" + text) == "C:\\root\\" + text
    assert posixpath.normpath("/root/" + text) == "/root/" + text
    assert len(text.encode()) <= LONGEST
    assert not any(unicodedata.category(c).startswith("C") for c in text)


@given(TEXTS)
def test_two_names_that_some_system_takes_for_one_are_folded_to_one(text: str) -> None:
    for other in (text.upper(), text.lower(), text.casefold(), unicodedata.normalize("NFD", text)):
        if accepted(text) and accepted(other) and unicodedata.normalize("NFC", other).casefold() == text.casefold():
            assert folded(other) == folded(text)


def test_names_that_differ_stay_apart() -> None:
    assert folded("a.whl") == folded("A.WHL") == folded("a.Whl")
    assert folded("straße") == folded("STRASSE")
    assert folded("a.whl") != folded("b.whl")


@given(st.text(), st.text(), st.integers(1), st.integers(1), st.integers(1))
def test_a_builds_folder_is_below_the_root_or_refused(
    stage: str, variant: str, run_id: int, number: int, build_id: int
) -> None:
    if len(str(max(run_id, number, build_id))) > LONGEST:
        return
    try:
        folder = build_folder(run_id, stage, variant, number, build_id)
    except UnsafeName:
        assert not accepted(stage) or (variant and not accepted(variant))
        return
    assert (Path("/root") / folder).parts == (
        *("/", "root", str(run_id), stage, variant or "default", str(number), str(build_id)),
    )


def test_two_builds_never_share_a_folder() -> None:
    folders = {build_folder(1, "s", v, n, b) for v in ("", "cpu") for n in (1, 2) for b in (7, 8)}
    assert len(folders) == 8
