"""The model of a step on several machines, against its simulation; the wire between two hosts."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from benchmarks.scaling import __main__
from benchmarks.scaling.model import IN_STORES, Step, seconds
from benchmarks.scaling.simulation import Simulation
from benchmarks.scaling.wire import ADDRESSES, command, wire

COMPUTING = Step(
    second_parts=3,
    forward=4e-3,
    first=5e-3,
    update=6e-3,
    iv=1e5,
    seed=2e5,
    latency=1e-3,
    bandwidth=1e9,
    overhead=2e-4,
    overhead_each=1e-4,
)
SENDING = dataclasses.replace(COMPUTING, second_parts=50, bandwidth=1e7)
FAR = dataclasses.replace(COMPUTING, latency=0.2)
COUNTING = dataclasses.replace(COMPUTING, second_parts=400, overhead_each=1e-3)
KINDS = pytest.mark.parametrize(
    "step", [COMPUTING, SENDING, FAR, COUNTING], ids=["computing", "sending", "far", "counting"]
)


def test_a_step_is_the_sum_of_what_it_waits_for() -> None:
    transfers = 3 * (1e5 + 2e5) / 1e9
    assert seconds(COMPUTING) == pytest.approx(0.004 + 0.005 + 0.006 + transfers + 0.004 + 0.0005)


@KINDS
@pytest.mark.parametrize("staleness", [0, 1, 2, 5])
@pytest.mark.parametrize("ways", [{}, IN_STORES], ids=["replies", "stores"])
def test_the_simulation_takes_as_long(step: Step, staleness: int, ways: dict[str, int]) -> None:
    step = dataclasses.replace(step, staleness=staleness, **ways)
    assert Simulation(step).run(200) == pytest.approx(seconds(step), rel=1e-3)


def test_too_few_steps_to_tell() -> None:
    with pytest.raises(ValueError, match="a staleness of 4 needs more steps than 60"):
        Simulation(dataclasses.replace(COMPUTING, staleness=4)).run(60)


def test_staleness_pays_until_something_is_busy_all_the_time() -> None:
    times = [seconds(dataclasses.replace(FAR, staleness=s)) for s in (0, 1, 3)]
    assert times[0] > 1.9 * times[1] > 3.6 * times[2]
    busy = seconds(dataclasses.replace(COMPUTING, staleness=9))
    assert busy == 2 * COMPUTING.forward + COMPUTING.update


def test_scattered_times_cost_more_the_more_parts_there_are() -> None:
    def lost(parts: int) -> float:
        step = dataclasses.replace(COMPUTING, second_parts=parts, bandwidth=1e15, overhead_each=0)
        return Simulation(step, scatter=0.5).run(200) / seconds(step)

    assert 1 < lost(2) < lost(100)


def test_prints_what_is_predicted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["scaling"])
    monkeypatch.setattr(__main__, "COUNTS", (1, 2))
    monkeypatch.setattr(__main__, "STEPS", 12)
    __main__.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 2 * len(__main__.SETTINGS)


ECHO = """
import socket
server = socket.create_server(("{address}", 5555))
connection, _ = server.accept()
while data := connection.recv(1 << 16):
    connection.sendall(data[-1:] * data.count(b"!"))
"""


@pytest.fixture(scope="module")
def _can_make_wires() -> None:
    """Skips what needs a wire where there can be none."""
    if os.geteuid() != 0 or not shutil.which("ip") or not pathlib.Path("/dev/net/tun").exists():
        pytest.skip("needs root, ip and /dev/net/tun")
    try:
        with wire(0, 1e9):
            pass
    except (OSError, RuntimeError) as error:
        pytest.skip(f"needs network namespaces: {error}")


@pytest.mark.usefixtures("_can_make_wires")
def test_a_wire_has_its_latency_and_bandwidth() -> None:
    latency, bandwidth, message = 0.03, 1e6, 100_000
    with wire(latency, bandwidth) as (a, b):
        echo = [sys.executable, "-c", ECHO.format(address=ADDRESSES[1])]
        with subprocess.Popen(command(b, *echo)) as server:
            try:
                probe = [sys.executable, "-c", PROBE.format(address=ADDRESSES[1], size=message)]
                done = subprocess.run(
                    command(a, *probe), capture_output=True, text=True, timeout=60
                )
            finally:
                server.kill()
    short, long = map(float, done.stdout.split())
    # How much longer they take is the machine's affair.
    assert short >= 2 * latency
    assert long >= 2 * latency + message / bandwidth


PROBE = """
import socket, time
deadline = time.monotonic() + 30
while True:
    try:
        connection = socket.create_connection(("{address}", 5555), timeout=30)
        break
    except OSError:
        assert time.monotonic() < deadline
        time.sleep(0.1)
for size in (1, {size}):
    start = time.perf_counter()
    connection.sendall(b"." * (size - 1) + b"!")
    connection.recv(1)
    print(time.perf_counter() - start)
"""


def test_a_wire_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PermissionError, match="root"), wire(0, 1):
        pass


@pytest.mark.usefixtures("_can_make_wires")
def test_no_wire_stays_behind() -> None:
    with pytest.raises(ZeroDivisionError), wire(0, 1e9):
        _ = 1 / 0
    listed = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    assert f"splitop-{os.getpid()}-" not in listed
