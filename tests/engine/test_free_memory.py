"""How much memory is free: read from a made-up /proc and /sys, where every limit can be the least one."""

from __future__ import annotations

import re
import resource

import pytest
import torch

from ncafast import free_memory as free

CPU = torch.device("cpu")
GB = 10**9


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Writes files of a made-up root: 8 GB are available and 1 GB of swap, this process holds 1 GB."""

    def write(path: str, text: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        free._limited_folders.cache_clear()

    pages = GB // resource.getpagesize()
    write("proc/meminfo", f"MemTotal: 99 kB\nMemAvailable: {8 * GB // 1024} kB\nSwapFree: {GB // 1024} kB\n")
    write("proc/self/statm", f"{3 * pages} {pages} 0 0 0 0 0\n")
    write("proc/self/cgroup", "")
    monkeypatch.setattr(free, "_ROOT", tmp_path)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    yield write
    free._limited_folders.cache_clear()


def test_without_limits_it_is_what_the_system_has_available_with_swap(system):
    found = free.free_memory(CPU)
    assert found.bytes == pytest.approx(9 * GB, rel=1e-6)
    assert found.by == "available"


def test_a_cgroup_of_either_version_and_any_level_limits_it_and_cached_files_count_as_free(system):
    system("proc/self/cgroup", "0::/outer/inner\n")
    system("sys/fs/cgroup/outer/inner/memory.max", "max\n")
    system("sys/fs/cgroup/outer/inner/memory.current", f"{GB}\n")
    system("sys/fs/cgroup/outer/memory.max", f"{5 * GB}\n")
    system("sys/fs/cgroup/outer/memory.current", f"{3 * GB}\n")
    system("sys/fs/cgroup/outer/memory.stat", f"anon {2 * GB}\nactive_file {GB // 4}\ninactive_file {GB // 2}\n")
    assert free.free_memory(CPU) == (2 * GB + 3 * GB // 4, "left in its cgroup")
    system("proc/self/cgroup", "7:pids:/x\n9:cpu,memory:/a\n")
    system("sys/fs/cgroup/memory/a/memory.limit_in_bytes", f"{4 * GB}\n")
    system("sys/fs/cgroup/memory/a/memory.usage_in_bytes", f"{3 * GB}\n")
    system("sys/fs/cgroup/memory/a/memory.stat", f"active_file 7\ntotal_active_file 5\ntotal_inactive_file {GB}\n")
    system("sys/fs/cgroup/memory/memory.limit_in_bytes", f"{2**63 - 4096}\n")
    system("sys/fs/cgroup/memory/memory.usage_in_bytes", f"{3 * GB}\n")
    assert free.free_memory(CPU) == (2 * GB + 5, "left in its cgroup")


def test_ulimit_leaves_the_rest_of_the_address_space(system, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (4 * GB, 4 * GB))
    found = free.free_memory(CPU)
    assert found.bytes == pytest.approx(GB, rel=1e-4)
    assert found.by == "left of its address space"


def test_a_limit_of_ones_own_counts_what_is_held_and_ends_with_its_block(system):
    with free.limited(3 * GB), free.limited(None):
        found = free.free_memory(CPU)
    assert found.bytes == pytest.approx(2 * GB, rel=1e-4)
    assert found.by == "left of 3.0 GB"
    with free.limited(GB // 2):
        assert free.free_memory(CPU).bytes == 0
    assert free.free_memory(CPU).by == "available"


def test_it_can_be_switched_off_and_is_not_known_of_other_devices(system, monkeypatch):
    assert free.free_memory(torch.device("meta")) is None
    monkeypatch.setenv("NCAFAST_MEMORY_CHECK", "0")
    assert free.free_memory(CPU) is None


def test_a_system_without_proc_says_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(free, "_ROOT", tmp_path)
    assert free.free_memory(CPU) is None


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("6GB", 6 * GB),
        ("512 MB", 512 * 10**6),
        ("1.5GiB", 3 * 2**29),
        ("2kib", 2048),
        ("4096", 4096),
        ("3T", 3 * 10**12),
    ],
)
def test_sizes_are_read(text, size):
    assert free.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "0", "-3GB", "GB", "1.2.3MB", "5 XB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(
        ValueError, match=f"^memory_limit={re.escape(repr(text))} is not allowed; give a size such as 6GB"
    ):
        free.parse_size(text)


def test_sizes_are_shown_short():
    assert [free.size_text(n) for n in (6_149_000_000, 123 * GB, 5_500_000, 0)] == [
        "6.1 GB",
        "123 GB",
        "5.5 MB",
        "0.0 MB",
    ]
