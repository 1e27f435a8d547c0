from __future__ import annotations

from pathlib import Path

import pytest

from madang.hardware.limits import Limits, container_limits
from tests.hardware.test_cpu import write

GB = 10**9


def test_no_groups(tmp_path: Path) -> None:
    assert container_limits(tmp_path) == Limits()


def test_version_2_takes_the_tightest_on_the_way_up(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/a/b\n",
        "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
        "sys/fs/cgroup/a/b/memory.max": f"{4 * GB}\n",
        "sys/fs/cgroup/a/b/memory.current": f"{1 * GB}\n",
        "sys/fs/cgroup/a/cpu.max": "150000 100000\n",
        "sys/fs/cgroup/a/memory.max": f"{6 * GB}\n",
        "sys/fs/cgroup/a/memory.current": f"{5 * GB}\n",
        "sys/fs/cgroup/a/memory.stat": f"anon 1\ninactive_file {GB}\n",
        "sys/fs/cgroup/cpu.max": "400000 100000\n",
    }
    assert container_limits(write(tmp_path, files)) == Limits(1.5, 4 * GB, 2 * GB)


def test_version_1(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n3:pids:/docker/x\n1:name=systemd:/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GB}",  # the container sees its own group as the top
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{3 * GB}",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
    }
    assert container_limits(write(tmp_path, files)) == Limits(0.5, 2 * GB, 0)


@pytest.mark.parametrize("path", ["/../../other", "/x"])
def test_unlimited(tmp_path: Path, path: str) -> None:
    files = {
        "proc/self/cgroup": f"5:memory:{path}\n4:cpu:{path}\n0::{path}\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/memory.max": "max",
        "sys/fs/cgroup/cpu.max": "max 100000",
    }
    assert container_limits(write(tmp_path, files)) == Limits()
