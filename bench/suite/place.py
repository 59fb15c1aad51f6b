"""Places: where servers and clients are, and what is between them.

Loopback: both on 127.0.0.1, a relay for each server. Namespaces: each in a network namespace of
its own, with vde2's wirefilter delaying the packets of two real TCP stacks in between; needs
root, and no address outside the namespaces. A place is made for one profile, as a context.
"""

import contextlib
import ctypes
import os
import subprocess

from e2e import env, proc

from .link import Link, Traffic

_CLONE_NEWNET = 0x40000000


class Loopback(contextlib.AbstractContextManager):
    address = "127.0.0.1"
    prefix = ""
    trust = ""

    def __init__(self, profile):
        self._profile = profile

    def __exit__(self, *_):
        pass

    def servers(self):
        return contextlib.nullcontext()

    def link(self, port):
        return Link(self._profile, port)


class Namespaces(contextlib.ExitStack):
    """The thread that enters is on the client's side until it leaves."""

    address = "10.99.0.1"
    prefix = "tcp-"
    trust = "insecure = true"           # parts of files by plain http that is not loopback

    def __init__(self, profile):
        super().__init__()
        self._profile = profile
        self._folder = env.folder("wire")
        self._sides = {}

    def __enter__(self):
        super().__enter__()
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.callback(os.close, self._home)
        for side, address in (("s", self.address), ("c", "10.99.0.2")):
            self._make_side(side, address)
        self._start("wirefilter", "-v", f"{self._folder}/s:{self._folder}/c", "-d",
                    str(self._profile.rtt_ms / 2), *self._bandwidth())
        self._go("c")
        self.callback(_enter, self._home)
        return self

    def _bandwidth(self):
        return ["-b", str(self._profile.mbit * 125000)] if self._profile.mbit else []

    def _make_side(self, side, address):
        name, tap, switch = f"xb{side}{os.getpid()}", f"xb{side}{os.getpid()}", \
            self._folder / side
        _ip("netns", "add", name)
        self.callback(_ip, "netns", "del", name)
        self._start("vde_switch", "-s", switch)
        proc.wait_until((switch / "ctl").exists, what="the switch")
        self._start("vde_plug2tap", "-s", switch, tap)
        proc.wait_until(lambda: os.path.exists(f"/sys/class/net/{tap}"), what="the tap")
        _ip("link", "set", tap, "netns", name)
        _ip("-n", name, "addr", "add", f"{address}/24", "dev", tap)
        for device in ("lo", tap):
            _ip("-n", name, "link", "set", device, "up")
        self._sides[side] = name

    def _start(self, *argv):
        # They read commands from standard input, and end with it.
        process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.PIPE, env=env.clean(
            PATH=os.environ["PATH"] + ":/usr/sbin:/sbin"), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, preexec_fn=env.die_with_parent)
        self.callback(process.wait)
        self.callback(process.kill)

    def _go(self, side):
        with open(f"/run/netns/{self._sides[side]}", "rb") as namespace:
            _enter(namespace.fileno())

    @contextlib.contextmanager
    def servers(self):
        self._go("s")
        try:
            yield
        finally:
            self._go("c")

    def link(self, port):
        return Wire(f"http://{self.address}:{port}", self._sides["c"])


class Wire(contextlib.AbstractContextManager):
    """What a Link is on loopback; all links are the same wire, so the first one counts it."""

    _counting = None

    def __init__(self, base, device):
        self.base = base
        self._device = device

    def __enter__(self):
        if Wire._counting is None:
            Wire._counting = self
        return self

    def __exit__(self, *_):
        if Wire._counting is self:
            Wire._counting = None

    def traffic(self):
        """Bytes of packets, headers included."""
        if Wire._counting is not self:
            return Traffic()
        with open("/proc/thread-self/net/dev", encoding="ascii") as table:
            for line in table:
                name, _, numbers = line.partition(":")
                if name.strip() == self._device:
                    fields = numbers.split()
                    return Traffic(up=int(fields[8]), down=int(fields[0]))
        raise RuntimeError(f"{self._device} is gone")


PLACES = {"loopback": Loopback, "tcp": Namespaces}


def _ip(*argv):
    subprocess.run(["ip", *argv], check=True, env=env.clean(
        PATH=os.environ["PATH"] + ":/usr/sbin:/sbin"))


def _enter(namespace):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "cannot enter the network namespace")
