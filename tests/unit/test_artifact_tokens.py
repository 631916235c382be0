"""A token says what its build may do, and nothing that was changed in it is believed."""

from __future__ import annotations

import base64
import json

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from master.artifacts.tokens import Grant, InvalidToken, sign, verify

KEY = "a-key-of-some-length-for-the-tests"
GRANT = Grant(build_id=92, run_id=3, folder="3/build/default/1/92", budget=4 << 30)
COUNTS = st.integers(0, 1 << 62)


@given(COUNTS, COUNTS, st.text(st.characters(exclude_categories=["Cs"])), COUNTS)
def test_what_was_signed_is_read_back(build_id: int, run_id: int, folder: str, budget: int) -> None:
    grant = Grant(build_id=build_id, run_id=run_id, folder=folder, budget=budget)
    assert verify(KEY, sign(KEY, grant)) == grant


@given(st.data())
def test_no_other_text_is_a_token(data: st.DataObject) -> None:
    token = sign(KEY, GRANT)
    place = data.draw(st.integers(0, len(token) - 1))
    changed = token[:place] + data.draw(st.characters(codec="ascii")) + token[place + 1 :]
    try:
        assert verify(KEY, changed) == GRANT  # base64 leaves a few bits at the ends of its parts unused
    except InvalidToken:
        assert changed != token


@given(st.text())
def test_any_text_is_refused_in_order(text: str) -> None:
    with pytest.raises(InvalidToken):
        verify(KEY, text)


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def forged() -> dict[str, str]:
    header, body, signature = sign(KEY, GRANT).split(".")
    claims = {"aud": "mlc-ci artifacts", "build": 93, "run": 3, "folder": GRANT.folder, "budget": 1}
    return {
        "another key": sign("another-key-of-some-length-too-....", GRANT),
        "another build, the old signature": f"{header}.{_part(claims)}.{signature}",
        "no signature": f"{_part({'alg': 'none', 'typ': 'JWT'})}.{body}.",
        "another audience": jwt.encode({**claims, "aud": "something else"}, KEY, "HS256"),
        "no audience": jwt.encode({k: v for k, v in claims.items() if k != "aud"}, KEY, "HS256"),
        "another algorithm": jwt.encode(claims, KEY, "HS384"),
        "no folder": jwt.encode({k: v for k, v in claims.items() if k != "folder"}, KEY, "HS256"),
        "a negative budget": jwt.encode({**claims, "budget": -1}, KEY, "HS256"),
        "a build that is no number": jwt.encode({**claims, "build": "92"}, KEY, "HS256"),
        "a build that is a truth": jwt.encode({**claims, "build": True}, KEY, "HS256"),
    }


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
@pytest.mark.parametrize("how", forged())
def test_a_forged_token_is_refused(how: str) -> None:
    with pytest.raises(InvalidToken):
        verify(KEY, forged()[how])
