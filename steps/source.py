"""The checkout: pinned commits, merged on the worker where the run is a pull request's."""

from __future__ import annotations

from typing import Any

from buildbot.interfaces import IRenderable
from buildbot.util import ComparableMixin
from zope.interface import implementer

from steps.command import Command, Frame


@implementer(IRenderable)
class CheckoutArguments(ComparableMixin):
    """``mlc-ci-worker checkout …`` for one build's properties, as a list: nothing of it meets a shell."""

    compare_attrs = ("submodules",)

    def __init__(self, *, submodules: bool) -> None:
        self.submodules = submodules

    def getRenderingFor(self, properties: Any) -> list[str]:
        def text(name: str) -> str:
            value = properties.getProperty(name)
            return str(value) if value else ""

        arguments = ["mlc-ci-worker", "checkout", f"--url={text('repository')}", f"--head={text('head_sha')}"]
        if base := text("base_sha"):
            arguments += [f"--base={base}", f"--pull-request={text('pull_request') or 0}"]
        if ref := text("ref"):
            arguments.append(f"--ref={ref}")
        if self.submodules:
            arguments.append("--submodules")
        return [*arguments, "--directory=."]


def checkout(frame: Frame, *, submodules: bool) -> Command:
    """The step that every stage with a checkout starts with."""
    return Command(name="checkout", command=CheckoutArguments(submodules=submodules), **frame.limits())
