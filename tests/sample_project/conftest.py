"""Keeps pytest out of the two trees: they are the sample project's, with tests of their own."""

collect_ignore = ["project", "kernels"]
