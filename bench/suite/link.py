"""Link: the relay in front of one server, and the profiles it can have."""

import os
import signal
import subprocess
from dataclasses import dataclass

from e2e import env

RELAY = os.environ.get("XCPFS_BENCH_RELAY", env.TOP_BUILD / "bench" / "relay")


@dataclass(frozen=True)
class Profile:
    name: str
    rtt_ms: int
    mbit: int                           # 0: as fast as the machine


PROFILES = {p.name: p for p in (
    Profile("0ms-100mbit", 0, 100), Profile("20ms-100mbit", 20, 100),
    Profile("50ms-100mbit", 50, 100), Profile("100ms-1gbit", 100, 1000),
    Profile("0ms-nolimit", 0, 0))}


@dataclass
class Traffic:
    up: int = 0
    down: int = 0
    connections: int = 0

    def __sub__(self, other):
        return Traffic(self.up - other.up, self.down - other.down,
                       self.connections - other.connections)

    def __add__(self, other):
        return Traffic(self.up + other.up, self.down + other.down,
                       self.connections + other.connections)


class Link:
    """Use as a context manager; base is what a client calls instead of the server's."""

    def __init__(self, profile, port):
        self._argv = [RELAY, "--to", str(port), "--rtt", str(profile.rtt_ms),
                      "--mbit", str(profile.mbit)]
        self._relay = None
        self.base = None

    def __enter__(self):
        self._relay = subprocess.Popen(self._argv, stdin=subprocess.DEVNULL, text=True,
                                       stdout=subprocess.PIPE, env=env.clean(),
                                       preexec_fn=env.die_with_parent)
        self.base = f"http://127.0.0.1:{int(self._relay.stdout.readline())}"
        return self

    def __exit__(self, *_):
        self._relay.terminate()
        self._relay.communicate()

    @property
    def pid(self):
        return self._relay.pid

    def traffic(self):
        """What has passed so far."""
        self._relay.send_signal(signal.SIGUSR1)
        words = self._relay.stdout.readline().split()
        counts = dict(zip(words[0::2], map(int, words[1::2])))
        return Traffic(counts["up"], counts["down"], counts["connections"])
