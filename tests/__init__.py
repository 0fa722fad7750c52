"""Several processes test side by side: each keeps to one thread, said before the libraries that read it are there."""

import os

for library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")
