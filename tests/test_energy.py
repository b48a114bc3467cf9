"""Counters of energy, on a /sys tree and an NVML that are made up."""

import ctypes
import itertools
import shutil
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from fercore import energy
from fercore.energy import Counter, Meter, open_meter

LARGEST = 262_143_328_850  # microjoules, as many processors have it


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Powercap:
    """A folder like /sys/class/powercap."""

    def __init__(self, path):
        self.path = path
        path.mkdir()

    def add(self, zone, name, microjoules, largest=LARGEST):
        folder = self.path / zone
        folder.mkdir()
        (folder / "name").write_text(f"{name}\n")
        (folder / "max_energy_range_uj").write_text(f"{largest}\n")
        self.set(zone, microjoules)

    def set(self, zone, microjoules):
        (self.path / zone / "energy_uj").write_text(f"{microjoules}\n")


@pytest.fixture
def powercap(tmp_path):
    return Powercap(tmp_path / "powercap")


@pytest.fixture
def clock():
    return Clock()


def backend(**facts):
    return SimpleNamespace(build_info=lambda: facts)


def meter_of(powercap, clock):
    return Meter(energy.package_counters(powercap.path), clock=clock)


# -- the processor ----------------------------------------------------------------------------


def test_packages_are_added_up_and_nothing_is_counted_twice(powercap, clock):
    zones = {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "dram",
        "intel-rapl:1": "package-1-die-0",
        "intel-rapl:2": "psys",
        "intel-rapl-mmio:0": "package-0",
    }
    for zone, name in zones.items():
        powercap.add(zone, name, 5_000_000)
    meter = meter_of(powercap, clock)
    assert [counter.name for counter in meter.counters] == ["package-0", "package-1-die-0"]
    with meter.share() as lap:
        for number, zone in enumerate(zones):
            powercap.set(zone, 5_000_000 + 10**number * 1_000_000)
        assert lap() == {"processor": pytest.approx(1 + 1000)}
        assert lap() == {"processor": 0.0}


def test_a_counter_that_began_anew(powercap, clock):
    powercap.add("intel-rapl:0", "package-0", LARGEST - 2_000_000)
    with meter_of(powercap, clock).share() as lap:
        powercap.set("intel-rapl:0", 3_000_000)
        assert lap() == {"processor": pytest.approx(5.0)}


def test_what_was_used_while_a_counter_may_have_gone_round_is_not_known(powercap, clock):
    powercap.add("intel-rapl:0", "package-0", 0)
    with meter_of(powercap, clock).share() as lap:
        clock.now += 262.0  # a kilowatt fills it in 262.1 s
        powercap.set("intel-rapl:0", 7_000_000)
        assert lap() == {"processor": pytest.approx(7.0)}
        clock.now += 263.0
        powercap.set("intel-rapl:0", 9_000_000)
        assert lap() == {}
        clock.now += 1.0
        powercap.set("intel-rapl:0", 9_500_000)
        assert lap() == {"processor": pytest.approx(0.5)}


def test_a_reading_that_fails_leaves_a_gap_and_no_wrong_number(powercap, clock):
    powercap.add("intel-rapl:0", "package-0", 0)
    powercap.add("intel-rapl:1", "package-1", 0)
    with meter_of(powercap, clock).share() as lap:
        powercap.set("intel-rapl:0", 4_000_000)
        powercap.set("intel-rapl:1", "")
        assert lap() == {}  # one package is not the processor
        powercap.set("intel-rapl:1", 1_000_000)
        assert lap() == {}  # nor is it known since when
        powercap.set("intel-rapl:1", 2_000_000)
        assert lap() == {"processor": pytest.approx(1.0)}


def test_only_root_may_read(powercap, monkeypatch):
    powercap.add("intel-rapl:0", "package-0", 0)
    locked = powercap.path / "intel-rapl:0" / "energy_uj"
    read_text = Path.read_text

    def refuse(path):
        if path == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return read_text(path)

    monkeypatch.setattr(Path, "read_text", refuse)
    meter = open_meter(backend(), powercap.path)
    assert meter.description == f"processor not readable: {locked} needs root"
    with meter, meter.share() as lap:
        assert lap() == {}


def test_a_machine_without_counters(tmp_path):
    meter = open_meter(backend(), tmp_path / "none")
    assert not meter.counters
    assert meter.description == (
        f"processor not readable: the kernel shows no counter of it in {tmp_path / 'none'}"
    )


def test_half_of_the_packages_is_not_the_processor(powercap):
    powercap.add("intel-rapl:0", "package-0", 0)
    powercap.add("intel-rapl:1", "package-1", 0)
    (powercap.path / "intel-rapl:1" / "energy_uj").unlink()
    assert not open_meter(backend(), powercap.path).counters


# -- runs -------------------------------------------------------------------------------------


def rising(numbers):
    """A counter that shows one number after the other, in joules, and stays at the last."""
    shown = itertools.chain(numbers, itertools.repeat(numbers[-1]))
    return Counter("processor", "made up", shown.__next__, 1.0)


def test_runs_side_by_side_share_what_is_used(clock):
    # 100 J while one run is alone, 60 while there are two, and 7 when it is alone again
    meter = Meter([rising([10, 110, 170, 177, 177])], clock=clock)
    with meter.share() as first:
        with meter.share():
            pass
        assert first() == {"processor": 100.0 + 60.0 / 2 + 7.0}


def test_each_of_two_runs_is_told_its_half(clock):
    meter = Meter([rising([0, 0, 50, 80])], clock=clock)
    with meter.share() as first, meter.share() as second:
        assert first() == {"processor": 25.0}
        assert second() == {"processor": 40.0}


def test_what_is_used_between_runs_is_nobodys(clock):
    meter = Meter([rising([0, 1, 1, 91, 93, 93])], clock=clock)
    with meter.share() as lap:
        assert lap() == {"processor": 1.0}
    with meter.share() as lap:
        assert lap() == {"processor": 2.0}


def test_counters_are_read_while_nobody_asks(monkeypatch):
    monkeypatch.setattr(energy, "PERIOD", 0.001)
    often, reads = threading.Event(), itertools.count()

    def read():
        number = next(reads)
        if number == 5:
            often.set()
        return number

    with Meter([Counter("processor", "made up", read, 1.0)]):
        assert often.wait(10)
    assert "energy" not in {thread.name for thread in threading.enumerate()}


# -- the GPU ----------------------------------------------------------------------------------

LIBRARY = r"""
#include <string.h>
static int begun = 0, known = 1;
static unsigned long long energies[2] = {5000000000000ull, 7};
static int gpus[2];
void set(int gpu, unsigned long long millijoules) { energies[gpu] = millijoules; }
void forget(void) { known = 0; }
int nvmlInit_v2(void) { begun = 1; return 0; }
const char *nvmlErrorString(int status) { return status == 3 ? "Not Supported" : "Not Found"; }
int nvmlDeviceGetHandleByPciBusId_v2(const char *address, void **gpu) {
  if (!begun) return 1;
  if (!strcmp(address, "0000:17:00.0")) *gpu = &gpus[0];
  else if (!strcmp(address, "0000:65:00.0")) *gpu = &gpus[1];
  else return 6;
  return 0;
}
#ifndef OLD
int nvmlDeviceGetTotalEnergyConsumption(void *gpu, unsigned long long *millijoules) {
  if (!known) return 3;
  *millijoules = energies[(int *)gpu - gpus];
  return 0;
}
#endif
"""


@pytest.fixture
def nvml(tmp_path):
    """Builds a library with NVML's calls and two GPUs; its path."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")

    def build(*flags):
        source, library = tmp_path / "nvml.c", tmp_path / f"nvml{len(flags)}.so"
        source.write_text(LIBRARY)
        subprocess.run(
            [compiler, "-shared", "-fPIC", *flags, str(source), "-o", str(library)], check=True
        )
        return str(library)

    return build


def test_the_gpu_that_computes_is_read(nvml, tmp_path, clock):
    path = nvml()
    library = ctypes.CDLL(path)
    meter = Meter(energy.gpu_counters("0000:65:00.0", path), clock=clock)
    with meter.share() as lap:
        library.set(0, ctypes.c_ulonglong(5_000_000_099_000))
        library.set(1, ctypes.c_ulonglong(1_507))
        clock.now += 1e6  # 64 bits do not go round
        assert lap() == {"gpu": pytest.approx(1.5)}


def test_a_gpu_counts_beyond_32_bits(nvml, clock):
    path = nvml()
    (counter,) = energy.gpu_counters("0000:17:00.0", path)
    assert counter.read() == 5_000_000_000_000


def test_a_driver_that_was_loaded_anew(nvml, clock):
    path = nvml()
    library = ctypes.CDLL(path)
    with Meter(energy.gpu_counters("0000:17:00.0", path), clock=clock).share() as lap:
        library.set(0, ctypes.c_ulonglong(3))
        assert lap() == {}
        library.set(0, ctypes.c_ulonglong(2_003))
        assert lap() == {"gpu": pytest.approx(2.0)}


def test_processor_and_gpu_are_told_apart(nvml, powercap):
    path = nvml()
    powercap.add("intel-rapl:0", "package-0", 0)
    meter = open_meter(backend(pci_bus_id="0000:65:00.0"), powercap.path, path)
    assert meter.description == "processor: package-0; gpu: NVML at 0000:65:00.0"
    with meter.share() as lap:
        powercap.set("intel-rapl:0", 2_000_000)
        assert lap() == {"processor": pytest.approx(2.0), "gpu": 0.0}


@pytest.mark.parametrize(
    ("address", "flags", "reason"),
    [
        ("0000:99:00.0", (), "nvmlDeviceGetHandleByPciBusId_v2: Not Found"),
        ("0000:17:00.0", ("-DOLD",), "too old to know nvmlDeviceGetTotalEnergyConsumption"),
    ],
)
def test_a_gpu_that_cannot_be_read(nvml, powercap, address, flags, reason):
    powercap.add("intel-rapl:0", "package-0", 0)
    meter = open_meter(backend(pci_bus_id=address), powercap.path, nvml(*flags))
    assert [counter.source for counter in meter.counters] == ["processor"]
    assert meter.description.startswith("processor: package-0; gpu not readable: ")
    assert reason in meter.description


def test_a_gpu_that_does_not_count(nvml, powercap):
    path = nvml()
    ctypes.CDLL(path).forget()
    meter = open_meter(backend(pci_bus_id="0000:17:00.0"), powercap.path, path)
    assert "nvmlDeviceGetTotalEnergyConsumption: Not Supported" in meter.description


def test_a_machine_without_nvml(powercap):
    meter = open_meter(backend(pci_bus_id="0000:17:00.0"), powercap.path, "libnone.so.1")
    assert "gpu not readable: libnone.so.1" in meter.description
