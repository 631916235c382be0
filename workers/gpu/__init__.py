"""``mlc-ci-worker check-gpu``: whether a GPU computes, not only whether it is listed."""
