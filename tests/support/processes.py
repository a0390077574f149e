"""Programs that a test starts: a port for them, and their end."""

import contextlib
import random
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psutil

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, outside the range from which the kernel serves whoever asks for any port.

    So neither an outgoing connection nor another's port 0 takes one before the program that it is for.
    """
    try:
        first, last = map(int, EPHEMERAL.read_text().split())
    except (OSError, ValueError):
        first, last = 49_152, 65_535
    # Ray's workers have those up to 20,000; SGLang adds up to a few thousand.
    usable = range(20_000, 60_000)
    candidates = [port for port in usable if not first <= port <= last] or list(usable)
    chance = random.SystemRandom()  # two runs with one seed take different ports
    found: list[int] = []
    for port in chance.sample(candidates, len(candidates)):
        if len(found) == count:
            break
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            found.append(port)
    return found


def family(process: subprocess.Popen) -> list[psutil.Process]:
    """What a process has started, and what that has started; nothing once the process has ended."""
    if process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(process.pid).children(recursive=True)
    return []


def end(process: subprocess.Popen, seconds: float = 300) -> None:
    """Ask a process to end; kill it after ``seconds``, and what is left of its family in any case."""
    started = family(process)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    kill(process, started)


def kill(process: subprocess.Popen, started: Sequence[psutil.Process] = ()) -> None:
    """Kill a process with its family and these others, and wait until they are gone."""
    members = {*family(process), *started}
    process.kill()
    for member in members:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()
    psutil.wait_procs(members, timeout=60)
