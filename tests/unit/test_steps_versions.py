"""What steps keep of versions, for the summary: what was installed from outside, and what was built."""

from __future__ import annotations

from typing import Any

from buildbot.process.results import FAILURE, SUCCESS
from test_steps_command import FRAME, StepCase

from steps.build_linux import ManifestCommand
from steps.test import PrebuiltImports

WHEEL = "mlc_sample-0.2.0+cu128-py3-none-manylinux_2_36_x86_64.whl"


class TestPrebuiltImports(StepCase):
    command = ("imports", "--installed", "apache-tvm", "--import", "tvm", "--import", "tvm_ffi")

    def expect(self, *lines: str, exit_code: int = 0) -> None:
        self.with_step(PrebuiltImports(name="imports", command=list(self.command), **FRAME.limits()))
        said = "".join(f"{line}\n" for line in lines)
        self.expect_commands(self.shell(list(self.command)).stdout(said).exit(exit_code))

    def test_versions_of_what_was_installed_and_of_what_was_imported_are_kept(self) -> Any:
        self.expect("apache-tvm 0.27.0.post1", "hello world", "imported tvm_ffi of apache_tvm_ffi 0.1.15")
        self.expect_outcome(SUCCESS)
        self.expect_property("prebuilt", {"apache-tvm": "0.27.0.post1", "apache-tvm-ffi": "0.1.15"})
        return self.run_step()

    def test_they_are_kept_of_a_broken_baseline_too(self) -> Any:
        self.expect("apache-tvm 0.1", "ImportCheck: import tvm: no", exit_code=1)
        self.expect_outcome(FAILURE)
        self.expect_property("prebuilt", {"apache-tvm": "0.1"})
        return self.run_step()


class TestManifestCommand(StepCase):
    def expect(self, said: str) -> None:
        self.with_step(ManifestCommand(name="manifest", command=["manifest"], **FRAME.limits()), wheel=WHEEL)
        self.expect_commands(self.shell(["manifest"]).stdout(f"x.manifest.json: …\n{said}\n").exit(0))
        self.expect_outcome(SUCCESS)

    def test_what_was_built_is_kept_with_the_tvm_beside_it(self) -> Any:
        self.expect("in its environment: apache-tvm-ffi 0.1.15, apache-tvm 0.27.0.post1")
        tvm = {"apache-tvm-ffi": "0.1.15", "apache-tvm": "0.27.0.post1"}
        self.expect_property("built", {"name": "mlc-sample", "version": "0.2.0+cu128", "tvm": tvm})
        return self.run_step()

    def test_no_tvm_is_none(self) -> Any:
        self.expect("in its environment: nothing of TVM")
        self.expect_property("built", {"name": "mlc-sample", "version": "0.2.0+cu128", "tvm": {}})
        return self.run_step()
