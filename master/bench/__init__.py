"""``ci/bench``: what this master costs and saves, as ratios within one run on one machine."""
