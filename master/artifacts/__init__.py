"""Artifacts: what builds leave, taken in over HTTP by a process of its own, listed once their attempt is accepted."""
