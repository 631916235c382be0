"""What a build does with the GPUs that it was lent, and what one sees that was lent none."""

from __future__ import annotations

import asyncio
import tomllib
from dataclasses import asdict, replace
from typing import Any

import pytest
from buildbot.process.properties import Properties
from buildbot.process.results import FAILURE, SUCCESS
from test_steps_command import EXPECTED_ENVIRONMENT, FRAME, PROPERTIES, StepCase

import steps
from master.settings import Settings
from steps.command import Command, StageEnvironment
from steps.devices import variables
from steps.gpu import check_gpus
from steps.recipe import StepRecipe, rendered
from workers.gpu.usage import Sample, joined, line, summed_up

BOARD, OTHER = "GPU-6f5807f4-7436-b82c-2cd6-a79121ed7e18", "GPU-00000000-0000-0000-0000-000000000001"
SOFTWARE = "VK-6d65736132322e332e36000000000000"


def gpu(name: str, api: str = "cuda", memory: int | None = None) -> dict[str, Any]:
    return {"id": name, "api": api, "index": 0, "memory": memory}


def environment(*gpus: dict[str, Any], **settings: str) -> dict[str, str]:
    properties = Properties()
    if gpus:
        properties.setProperty("gpus", list(gpus), "test")
    return StageEnvironment(settings).plain(properties)


def test_a_build_that_was_lent_none_sees_none() -> None:
    seen = environment()
    assert (seen["CUDA_VISIBLE_DEVICES"], seen["NVIDIA_VISIBLE_DEVICES"]) == ("-1", "void")
    assert "MLC_CI_VULKAN_DEVICE" not in seen


def test_settings_may_say_otherwise_of_a_build_without_and_not_of_one_with() -> None:
    assert environment(CUDA_VISIBLE_DEVICES="0")["CUDA_VISIBLE_DEVICES"] == "0"
    assert environment(gpu(BOARD), CUDA_VISIBLE_DEVICES="0")["CUDA_VISIBLE_DEVICES"] == BOARD


def test_cuda_shows_what_was_lent_and_no_others() -> None:
    seen = variables([gpu(BOARD), gpu(OTHER)])
    both = f"{BOARD},{OTHER}"
    assert seen == {
        "CUDA_VISIBLE_DEVICES": both,
        "NVIDIA_VISIBLE_DEVICES": both,
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }


def test_vulkans_device_is_named_by_its_uuid() -> None:
    seen = variables([gpu(BOARD, "vulkan")])
    assert seen["MLC_CI_VULKAN_DEVICE"] == "6f5807f47436b82c2cd6a79121ed7e18"
    assert seen["CUDA_VISIBLE_DEVICES"] == BOARD  # the board is the build's, by whichever API
    software = variables([gpu(SOFTWARE, "vulkan")])
    assert software["MLC_CI_VULKAN_DEVICE"] == "6d65736132322e332e36000000000000"
    assert software["CUDA_VISIBLE_DEVICES"] == "-1"
    assert variables([gpu("VK-0", "vulkan")])["MLC_CI_VULKAN_DEVICE"] == "0"


class TestCheckGpus(StepCase):
    def lent(self, *gpus: dict[str, Any]) -> Any:
        return self.with_step(check_gpus(FRAME), gpus=list(gpus))

    def asked(self, *gpus: dict[str, Any], options: tuple[str, ...] = ()) -> Any:
        api = gpus[0]["api"]
        devices = [f"--device={each['id']}" for each in gpus]
        command = ["mlc-ci-worker", "check-gpu", f"--api={api}", "--seconds=60", *options, *devices]
        return self.shell(command, env=EXPECTED_ENVIRONMENT | variables(list(gpus)))

    def test_each_device_is_checked_as_the_build_will_see_it(self) -> Any:
        gpus = gpu(BOARD), gpu(OTHER)
        self.lent(*gpus)
        self.expect_commands(self.asked(*gpus).exit(0))
        self.expect_outcome(SUCCESS, "gpu")
        self.expect_no_property("gpus_failed")
        return self.run_step()

    def test_of_a_share_its_memory_has_to_be_free(self) -> Any:
        share = gpu(BOARD, memory=8 << 30)
        self.lent(share)
        self.expect_commands(self.asked(share, options=("--memory=8589934592",)).exit(0))
        self.expect_outcome(SUCCESS)
        return self.run_step()

    def test_a_wrong_result_is_infrastructure_and_names_the_device(self) -> Any:
        gpus = gpu(SOFTWARE, "vulkan"), gpu("VK-1", "vulkan")
        self.lent(*gpus)
        wrong = "wrong result at element 17: 0x1, where the CPU has 0x2; 1 of 63 are wrong"
        said = (
            f"vulkan {SOFTWARE}: failed: {wrong}\nvulkan VK-1: x computes as the CPU does: 9 elements; 2 are visible\n"
        )
        error = f"mlc-ci-worker check-gpu: error: device {SOFTWARE}: {wrong}\n"
        self.expect_commands(self.asked(*gpus).stdout(said).stderr(error).exit(75))
        self.expect_outcome(FAILURE, f"gpu failed (infrastructure): device {SOFTWARE}: {wrong}")
        self.expect_property("failure_class", "infrastructure")
        self.expect_property("failure_reason", f"device {SOFTWARE}: {wrong}")
        self.expect_property("gpus_failed", {SOFTWARE: wrong})
        return self.run_step()

    def test_a_check_that_breaks_down_is_infrastructure_too_and_says_it_of_all(self) -> Any:
        self.lent(gpu(BOARD))
        self.expect_commands(self.asked(gpu(BOARD)).stderr("Traceback …\nKeyError: 'x'\n").exit(1))
        self.expect_outcome(FAILURE)
        self.expect_property("failure_class", "infrastructure")
        self.expect_property("gpus_failed", {BOARD: "KeyError: 'x'"})
        return self.run_step()

    def test_the_same_end_of_another_command_is_the_codes_fault(self) -> Any:
        """The negative control."""
        self.with_step(Command(name="make", command=["make"], **FRAME.limits()))
        self.expect_commands(self.shell(["make"]).stderr("Traceback …\nKeyError: 'x'\n").exit(1))
        self.expect_outcome(FAILURE)
        self.expect_property("failure_class", "code")
        return self.run_step()

    def test_a_stage_that_was_lent_none_does_not_go_on(self) -> Any:
        self.lent()
        self.expect_outcome(
            FAILURE, "gpu failed (infrastructure): the stage asks for a GPU, and the build was lent none"
        )
        self.expect_property("failure_class", "infrastructure")
        return self.run_step()


TEXT = """
[project]
name = "sample"
repository = "https://example.org/sample.git"
[stages.test]
variants = ["cpu", "vulkan"]
[stages.test.requires.variants.vulkan]
gpu = { api = "vulkan", software = true }
[stages.plain]
uses = "commands"
commands = ["true"]
"""


@pytest.fixture
def settings() -> Settings:
    return Settings.model_validate(tomllib.loads(TEXT))


def names(settings: Settings, stage: str, variant: str = "") -> list[str]:
    return [step.name for step in steps.build_steps(settings.pipeline()[stage], variant, settings)]


def test_only_what_asks_for_a_gpu_checks_it_first(settings: Settings) -> None:
    assert names(settings, "test", "vulkan")[:2] == ["gpu", "checkout"]
    assert names(settings, "test", "vulkan")[1:] == names(settings, "test", "cpu")
    assert names(settings, "plain")[0] == "checkout"


def test_a_reproduction_uses_the_devices_of_its_own_machine(settings: Settings) -> None:
    def recipe(variant: str) -> list[StepRecipe]:
        made = steps.build_steps(settings.pipeline()["test"], variant, settings)
        return asyncio.run(rendered(made, PROPERTIES))

    check, checkout, *_ = recipe("vulkan")
    assert (check.name, check.argv) == ("gpu", ())
    assert "CUDA_VISIBLE_DEVICES" not in checkout.environment
    assert recipe("cpu")[0].environment["CUDA_VISIBLE_DEVICES"] == "-1"


USE = summed_up(
    [Sample(at=at, board=0, busy=50, used=1 << 30, total=80 << 30) for at in (0.0, 1.0)],
    began=0.0,
)


class TestUsage(StepCase):
    def step(self, *gpus: dict[str, Any]) -> Command:
        made: Command = self.with_step(Command(name="make", command=["make"], **replace(FRAME, watched=True).limits()))
        if gpus:
            self.build.setProperty("gpus", list(gpus), "test")
        return made

    def expect(self, *options: str, seen: dict[str, str], says: str = "", code: int = 0) -> None:
        wrapped = self.shell(["mlc-ci-worker", "limit", *options, "--", "make"], env=seen)
        self.expect_commands(wrapped.stderr(says).exit(code))

    def test_a_build_keeps_what_its_command_used_of_the_boards_that_it_was_lent(self) -> Any:
        lent = gpu(BOARD), gpu(SOFTWARE, "vulkan")
        self.step(*lent)
        said = line({BOARD: USE, OTHER: USE}) + "\n"
        self.expect(f"--gpu={BOARD}", seen={**EXPECTED_ENVIRONMENT, **variables(list(lent))}, says=f"\n{said}")
        self.expect_outcome(SUCCESS, "make")
        self.expect_property("gpu_usage", {BOARD: asdict(joined(None, USE, 0.0))}, "step")
        return self.run_step()

    def test_a_command_that_failed_tells_too(self) -> Any:
        self.step(gpu(BOARD))
        seen = {**EXPECTED_ENVIRONMENT, **variables([gpu(BOARD)])}
        self.expect(f"--gpu={BOARD}", seen=seen, says=line({BOARD: USE}) + "\n", code=1)
        self.expect_outcome(FAILURE, "make failed (code): ended with exit code 1")
        self.expect_property("gpu_usage", {BOARD: asdict(joined(None, USE, 0.0))}, "step")
        return self.run_step()

    def test_a_build_without_gpus_is_not_looked_at_and_tells_nothing(self) -> Any:
        self.step()
        self.expect(seen=EXPECTED_ENVIRONMENT, says=line({BOARD: USE}) + "\n")
        self.expect_outcome(SUCCESS, "make")
        self.expect_no_property("gpu_usage")
        return self.run_step()
