"""``[gpus]``: how the master learns what its workers' hosts have, and gives their GPUs out."""

from __future__ import annotations

from master.settings_types import PositiveDuration, Switch, Table


class GpuSettings(Table):
    shares: Switch = False  #: a build that says how much memory it needs shares its GPU with others of that kind
    probe_interval: PositiveDuration = 60.0  #: how often a worker is asked what its last probe found
    stale_after: PositiveDuration = 20 * 60.0  #: a worker that has said nothing new for so long is taken for unknown
