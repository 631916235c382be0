"""What an answer of GitHub's means for what is sent next."""

from __future__ import annotations

import pytest

from master.github.failures import AccessRefused, GitHubRefused, of_answer

COMMENTS = "POST /repos/acme/sample/issues/7/comments"
NEEDED = {"pull_requests": "write"}


@pytest.mark.parametrize(
    "said", ["Unable to create comment because issue is locked.", "The conversation Is Locked", "Issue is locked"]
)
def test_a_locked_conversation_concerns_one_comment_and_no_permission(said: str) -> None:
    error = of_answer(COMMENTS, 403, {}, said, NEEDED)
    assert type(error) is GitHubRefused
    assert error.status == 403
    assert str(error) == f"GitHub refuses {COMMENTS} with 403: {said.rstrip('.')}. Unlock the conversation there"


def test_any_other_403_names_the_permission_that_is_missing() -> None:
    error = of_answer(COMMENTS, 403, {}, "Resource not accessible by integration", NEEDED)
    assert type(error) is AccessRefused
    assert "lacks pull_requests: write" in str(error)
    assert type(of_answer(COMMENTS, 401, {}, "the account is locked", NEEDED)) is AccessRefused
