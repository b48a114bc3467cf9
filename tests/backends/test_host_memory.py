"""Free memory of the host: the machine's, and a container's if it has less."""

import pytest

from fercore.backends import host_memory
from fercore.backends.host_memory import free_host_memory

MEMINFO = "MemTotal:       24684000 kB\nMemFree:        1000 kB\nMemAvailable:   4000 kB\n"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.setattr(host_memory, "PROC", tmp_path / "meminfo")
    monkeypatch.setattr(host_memory, "CGROUP", tmp_path)

    def write(**files):
        for name, text in files.items():
            (tmp_path / name.replace("_", ".")).write_text(text)

    return write


def test_what_the_machine_has(machine):
    machine(meminfo=MEMINFO)
    assert free_host_memory() == 4000 * 1024


def test_a_container_without_a_limit(machine):
    machine(meminfo=MEMINFO, memory_max="max\n", memory_current="5\n")
    assert free_host_memory() == 4000 * 1024


def test_a_container_with_less(machine):
    machine(meminfo=MEMINFO, memory_max="3000000\n", memory_current="2900000\n")
    assert free_host_memory() == 100_000
    machine(memory_stat="anon 7\ninactive_file 50000\nactive_file 9\n")
    assert free_host_memory() == 150_000
    machine(memory_current="4000000\n")
    assert free_host_memory() == 0


def test_an_unknown_machine(machine):
    assert free_host_memory() is None


def test_this_machine_has_some():
    free = free_host_memory()
    if free is None:
        pytest.skip("this system does not say how much memory it has")
    assert free > 1 << 20
