"""Chat templates."""

import pytest
from mlc_sample.conversation import CHATML

pytestmark = pytest.mark.unittest


def test_the_prompt_ends_where_the_assistant_begins():
    prompt = CHATML.prompt([("system", "Be brief."), ("user", "Hello")])
    assert prompt == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([("robot", "beep")], "unknown role"),
        ([("user", "a"), ("system", "b")], "must be the first"),
        ([("user", "a"), ("user", "b")], "expected assistant"),
        ([("user", "a"), ("assistant", "b")], "end with the user"),
        ([], "end with the user"),
    ],
)
def test_a_conversation_out_of_order_is_refused(messages, reason):
    with pytest.raises(ValueError, match=reason):
        CHATML.prompt(messages)
