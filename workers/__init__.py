"""What lives on a worker host: the checkout, the launcher and other tools behind ``mlc-ci-worker``.

Imports nothing of ``master`` or ``steps``: it is installed alone on a worker host.
"""
