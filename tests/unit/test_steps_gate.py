"""Every expectation of the settings, as the gate is told it."""

from __future__ import annotations

from test_steps_stages import rendered

from master.settings_wheel import WheelSettings
from steps.build_linux import verify_command, waived
from workers.wheel.command import _LISTS, _VALUES


def test_every_expectation_reaches_the_gate() -> None:
    wheel = WheelSettings.model_validate(
        {
            "package": "x",
            "libraries": ["libx.so"],
            "exclude": ["libtvm.so"],
            "expect": {
                "platform": "linux_aarch64",
                "requires": ["apache-tvm-ffi>=0.1"],
                "max_size": "2K",
                "needed": ["liby.so*"],
                "glibc": "2.28",
                "glibcxx": "3.4.29",
                "cxxabi": "1.3",
                "forbidden": ["libz.so"],
                "never_grafted": ["libcuda*"],
                "placeholders": ["0.1"],
                "allow": [{"check": "rpath", "files": "x/lib*.so", "reason": "it is relocated"}],
                "bounds": {"seconds": 900},
            },
        }
    )
    command = rendered(verify_command(wheel, "wheelhouse"), tag="")
    assert isinstance(command, list)
    assert command[:5] == ["mlc-ci-worker", "verify-wheel", "--manifest", "--package", "x"]
    assert dict(zip(command[5:-2:2], command[6:-2:2], strict=True)) == {
        "--library": "libx.so",
        "--exclude": "libtvm.so",
        "--allow": "rpath=x/lib*.so",
        "--platform": "linux_aarch64",
        "--requires": "apache-tvm-ffi>=0.1",
        "--allow-needed": "liby.so*",
        "--forbid": "libz.so",
        "--never-graft": "libcuda*",
        "--placeholder": "0.1",
        "--glibc": "2.28",
        "--glibcxx": "3.4.29",
        "--cxxabi": "1.3",
        "--max-size": "2048",
        "--bound": "seconds=900",
    }
    assert set(command[5:-2:2]) <= {*_LISTS, *_VALUES, "--bound"}, "the gate has such options"
    assert waived(wheel.expect) == ["verify: rpath waived for x/lib*.so: it is relocated"]
    assert waived(WheelSettings(package="x").expect) is None
