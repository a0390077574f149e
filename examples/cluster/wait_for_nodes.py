"""Wait until a Ray cluster has all of its machines: ``python wait_for_nodes.py HOST:PORT MACHINES [SECONDS]``."""

import socket
import sys
import time

import ray


def listens(address: str) -> bool:
    """Whether somebody is there: Ray's client takes long to find out, and ends the process."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError:
        return False
    return True


def machines_of(address: str) -> int:
    """The machines of the cluster; 0 while this one has not joined."""
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        return sum(node["Alive"] for node in ray.nodes())
    except (ConnectionError, RuntimeError, ValueError):
        return 0
    finally:
        ray.shutdown()


def main(address: str, machines: int, seconds: float = 300.0) -> int:
    """0 once ``machines`` are there; 1, and a line that says how many came, when the time is over."""
    deadline = time.monotonic() + seconds
    alive = 0
    while time.monotonic() < deadline:
        if listens(address):
            alive = machines_of(address)
        if alive >= machines:
            print(f"all of {machines} machines are in the cluster at {address}", flush=True)
            return 0
        time.sleep(2)
    print(f"{alive} of {machines} machines joined {address} within {seconds:.0f} s: see their logs", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), *map(float, sys.argv[3:])))
