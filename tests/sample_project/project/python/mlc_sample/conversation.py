"""Chat templates: a conversation as the one prompt that a model was trained on."""

from dataclasses import dataclass

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Template:
    """How a model marks who speaks."""

    name: str
    begin: str
    end: str

    def prompt(self, messages):
        """The prompt for a list of (role, text) that ends with the user; the model continues as the assistant.

        Raises ValueError for an unknown role, for a system message that is not the first, and for roles that do not
        alternate.
        """
        self._check(messages)
        turns = [f"{self.begin.format(role=role)}{text}{self.end}" for role, text in messages]
        return "".join(turns) + self.begin.format(role="assistant")

    @staticmethod
    def _check(messages):
        expected = "user"
        for position, (role, _) in enumerate(messages):
            if role not in ROLES:
                raise ValueError(f"message {position}: unknown role {role!r}, expected one of {', '.join(ROLES)}")
            if role == "system":
                if position != 0:
                    raise ValueError(f"message {position}: the system message must be the first")
                continue
            if role != expected:
                raise ValueError(f"message {position}: the role is {role}, expected {expected}")
            expected = "assistant" if role == "user" else "user"
        if expected != "assistant":
            raise ValueError("the conversation must end with the user")


CHATML = Template("chatml", begin="<|im_start|>{role}\n", end="<|im_end|>\n")
