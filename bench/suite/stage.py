"""Stage: one profile and one repository, with the servers and links that a run needs.

What is measured between two points is a Reading: meter() gives a Meter, whose stop() waits until
nothing is on its way any more, so that what was asked for ahead of readers counts too.
"""

import contextlib
import os
import subprocess
import time
from dataclasses import dataclass

from e2e import env, proc
from e2e.lighttpd import GitHttpServer
from e2e.mounts import Mount

from .link import Traffic
from .static import StaticServer

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Reading:
    seconds: float
    requests: int = 0
    up: int = 0
    down: int = 0
    rss_kib: int = None                 # the most RssAnon of the daemon
    cpu_s: float = None                 # the daemon's
    read: int = None                    # bytes that the reader got, where that is a question
    files: int = None                   # likewise


class Stage(contextlib.ExitStack):
    """Use as a context manager."""

    def __init__(self, place, profile, repository):
        super().__init__()
        self._place = place
        self.profile, self.repository = profile, repository
        self.name = f"{place.prefix}{profile.name}.{repository.name}"

    def __enter__(self):
        super().__enter__()
        place = self.enter_context(self._place(self.profile))
        with place.servers():
            self.git = self.enter_context(GitHttpServer(address=place.address))
            self.static = self.enter_context(StaticServer(place.address))
        self.links = [self.enter_context(place.link(server.port))
                      for server in (self.git, self.static)]
        self.git.add(self.repository.path, "bench/repo.git", object_info=False)
        self.git.add(self.repository.path, "bench/sizes.git", object_info=True)
        self.static_url = self.links[1].base + self.static.add(self.repository)
        self._config = env.folder("config") / "config"
        self._config.write_text(f"""[host "bench"]
git = {self.links[0].base}/git/{{owner}}/{{repo}}.git
raw = {self.links[1].base}/raw/{{commit}}/{{path}}
{place.trust}
""")
        return self

    def url(self, name="repo.git"):
        return f"{self.links[0].base}/git/bench/{name}"

    def mount(self, tag="v1", cache=None, name="repo.git"):
        """xcpfs over the link, as a context manager."""
        return Mount(self.url(name), "--ref", tag, "--config", self._config, cache=cache,
                     timeout=600, log_level="warn")

    def meter(self, mount=None):
        return Meter(self, mount)

    def traffic(self):
        return sum((link.traffic() for link in self.links), Traffic())

    def requests(self):
        return self.git.settle() + self.static.count()


class Meter:
    """From here to stop(); attend() says which daemon to watch as soon as there is one."""

    def __init__(self, stage, mount):
        self._stage, self._mount, self._cpu = stage, None, 0.0
        self._requests, self._traffic = stage.requests(), stage.traffic()
        if mount:
            self.attend(mount)
            self._cpu = cpu_seconds(mount.pid)

    def attend(self, mount):
        self._mount = mount
        self._sampler = proc.RssSampler(mount.pid)
        self._sampler.__enter__()

    def stop(self, seconds, **got):
        reading = Reading(seconds, **got)
        if self._mount:
            # A stream that nobody reads may wait for a while before it is given up.
            proc.wait_until(lambda: self._mount.stats()["flights"] == 0, 120, fail=False)
            self._sampler.__exit__()
            reading.rss_kib = self._sampler.max_kib
            reading.cpu_s = cpu_seconds(self._mount.pid) - self._cpu
        reading.requests = self._stage.requests() - self._requests
        traffic = self._stage.traffic() - self._traffic
        reading.up, reading.down = traffic.up, traffic.down
        return reading


def cpu_seconds(pid):
    """User and system time of a process, without its children's."""
    with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def shell(command, cwd):
    """Runs a command of the shell in a folder; what it prints is read and thrown away."""
    done = subprocess.run(["sh", "-c", command], cwd=cwd, env=env.clean(), check=False,
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE)
    if done.returncode:
        raise RuntimeError(f"{command}: exit {done.returncode}: "
                           + done.stderr.decode(errors="replace")[-2000:])


def timed(command, cwd):
    """How many seconds a command, or a function, takes."""
    began = time.monotonic()
    if callable(command):
        command(cwd)
    else:
        shell(command, cwd)
    return time.monotonic() - began


def drop_page_cache():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("3\n")
