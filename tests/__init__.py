"""Tests. Of several at a time each keeps to one thread: threads that wait for a core others use spend it on waiting."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read once, when NumPy and scikit-learn are loaded
