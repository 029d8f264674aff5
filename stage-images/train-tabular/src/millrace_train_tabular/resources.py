"""How many threads the container may use: its CPU limit, which libraries do not see by themselves."""

import math
import os
from pathlib import Path

CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def threads(limit: Path = CGROUP_LIMIT) -> int:
    """The CPUs this process may run on, or the quota of its cgroup where that is less."""
    available = len(os.sched_getaffinity(0))
    try:
        quota, period = limit.read_text().split()
        if quota != "max":
            available = min(available, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):
        # No cgroup v2 here: the CPUs are all there is to know.
        pass
    return max(available, 1)


def settle(count: int) -> None:
    """Tells the numeric libraries, before they are imported. BLAS gets one thread: its sums would otherwise depend on the
    number of CPUs, and with them the model's bytes."""
    os.environ.setdefault("OMP_NUM_THREADS", str(count))
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    # Threads that wait by spinning starve one another where CPUs are shared, which in a cluster they are.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
