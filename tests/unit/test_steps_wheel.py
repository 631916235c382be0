"""The steps that must leave one wheel, of the right version."""

from __future__ import annotations

from typing import Any

from buildbot.process.results import FAILURE, SUCCESS
from buildbot.test.steps import ExpectGlob
from test_steps_command import FRAME, StepCase

from steps.build_linux import WheelCommand


class TestWheelCommand(StepCase):
    def wheel(self, *, repaired: bool = False, **properties: Any) -> None:
        step = WheelCommand(name="wheel", command=["pip", "wheel"], folder="dist", repaired=repaired, **FRAME.limits())
        self.with_step(step, **properties)

    def answer(self, *names: str) -> None:
        glob = ExpectGlob(path="wkdir/dist/*.whl", log_environ=False).files([f"/w/dist/{name}" for name in names])
        self.expect_commands(self.shell(["pip", "wheel"]).exit(0), glob.exit(0))

    def refuse(self, reason: str) -> Any:
        self.expect_outcome(FAILURE, f"wheel failed (code): {reason}")
        self.expect_property("failure_class", "code")
        self.expect_no_property("wheel")
        return self.run_step()

    def test_one_wheel_becomes_a_property(self) -> Any:
        self.wheel(tag="v1.2.0")
        self.answer("mlc_sample-1.2-py3-none-linux_x86_64.whl")
        self.expect_outcome(SUCCESS, "mlc_sample-1.2-py3-none-linux_x86_64.whl")
        self.expect_property("wheel", "mlc_sample-1.2-py3-none-linux_x86_64.whl")
        return self.run_step()

    def test_no_wheel(self) -> Any:
        self.wheel()
        self.answer()
        return self.refuse("dist must hold exactly one wheel after this; found: none")

    def test_two_wheels(self) -> Any:
        self.wheel()
        self.answer("b-1-py3-none-any.whl", "a-1-py3-none-any.whl")
        return self.refuse(
            "dist must hold exactly one wheel after this; found: a-1-py3-none-any.whl, b-1-py3-none-any.whl"
        )

    def test_another_version_than_the_tags(self) -> Any:
        self.wheel(tag="v1.2.3")
        self.answer("mlc_sample-0.1.dev0-py3-none-any.whl")
        return self.refuse("tag v1.2.3 was built as mlc-sample 0.1.dev0, not 1.2.3")

    def test_a_tag_that_is_no_version(self) -> Any:
        self.wheel(tag="vNext")
        self.answer("mlc_sample-0.1.dev0-py3-none-any.whl")
        return self.refuse("tag vNext is no version (PEP 440): it cannot be released")

    def test_a_repair_that_did_not_happen(self) -> Any:
        self.wheel(repaired=True)
        self.answer("mlc_sample-1.2-py3-none-linux_x86_64.whl")
        return self.refuse(
            "mlc_sample-1.2-py3-none-linux_x86_64.whl still says linux_x86_64: the repair did not happen"
        )

    def test_a_file_name_that_is_none(self) -> Any:
        self.wheel()
        self.answer("x.whl")
        self.expect_outcome(FAILURE)
        self.expect_property("failure_class", "code")
        return self.run_step()
