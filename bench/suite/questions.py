"""The questions. Each is a function of a Run; a row of QUESTIONS says on which repositories.

cold    nothing cached; the time includes the mount unless the question says otherwise
warm    everything in the cache on disk, a new mount, the page cache dropped
hot     the same once more
"""

import os
import random
import shutil
import zlib

from e2e import env, proc

from . import competitors
from .repositories import BIG, BIGGEST, HALF, MIB
from .run import READ_ALL, path_of
from .stage import timed

NEEDLE = "xyzzy.plugh.[0-9]"
GREP = f"grep -r '{NEEDLE}' . | cat"
FIND_STAT = "find . -printf '%s %p\\n' | cat"
BUILD = "cmake -S . -B {0} -DENABLE_TESTING=OFF -DCMAKE_BUILD_TYPE=Debug && make -j2 -C {0}"


def mount_ls(run):
    run.put("mount-ls.cold", run.cold("ls"), clone=run.clone(),
            blobless=run.clone(competitors.BLOBLESS))
    cache = run.filled_cache()
    with run.mounted(cache=cache) as mount:
        meter = run.stage.meter(mount)
        run.put("mount-ls.warm", meter.stop(mount.seconds + timed("ls", mount.path)))


def first_byte(run):
    """Of a small file, in a mount that has just been made; bare: one round trip."""
    name = run.repository.sample(1)[0]
    with run.mounted() as mount:
        reading = run.after_mount(lambda path: _first(path, name), mount)
        run.put("first-byte.cold", reading,
                **({"bare": run.stage.profile.rtt_ms / 1000} if run.stage.profile.rtt_ms else {}))
    run.warm_and_hot("first-byte", lambda path: _first(path, name))


def find(run):
    run.put("find.cold", run.cold("find . | cat"), clone=run.clone())
    run.warm_and_hot("find", "find . | cat")


def find_stat(run):
    run.warm_and_hot("find-stat", FIND_STAT)


def ls_lr(run):
    run.put("ls-lR.cold", run.cold("ls -lR | cat"), clone=run.clone())
    run.warm_and_hot("ls-lR", "ls -lR | cat")


def ls_lr_sizes(run):
    """On a server that tells sizes (object-info); after: what comes after the mount."""
    run.put("ls-lR-sizes.cold", run.cold("ls -lR | cat", name="sizes.git"), clone=run.clone())
    with run.mounted(name="sizes.git") as mount:
        mount.idle()
        run.put("ls-lR-sizes.after", run.after_mount("ls -lR | cat", mount))


def grep(run):
    run.put("grep.cold", run.cold(GREP), clone=run.clone(),
            blobless=run.clone(competitors.BLOBLESS_FILES))
    run.warm_and_hot("grep", GREP)


def rg(run):
    run.warm_and_hot("rg", f"rg -uu '{NEEDLE}' . | cat")


def tar(run):
    run.put("tar.cold", run.cold(READ_ALL), clone=run.clone())
    run.warm_and_hot("tar", READ_ALL)


def build(run):
    """Out of tree. The clone's is clone and build; hot is a second build beside the local one's."""
    folder = env.folder("build")

    def command(path):
        timed(BUILD.format(folder), path)

    def again(path):
        shutil.rmtree(folder)
        return timed(BUILD.format(folder), path)
    cold = run.cold(command)
    run.put("build.cold", cold, clone=run.clone().seconds + again(run.local()))
    with run.mounted(cache=run.filled_cache()) as mount:
        run.hot("build", again, mount, times=1)
    shutil.rmtree(folder)


def next_tag(run):
    """v2 after v1 was read in full, beside git fetch --depth 1 (and its checkout)."""
    local = env.folder("clone")
    shutil.copytree(run.local(), local, dirs_exist_ok=True, symlinks=True)
    run.put("next-tag.full", run.cold(READ_ALL, tag="v2", cache=run.filled_cache()),
            fetch=competitors.fetch(run.stage, local, "v2"))
    shutil.rmtree(local)


def next_tag_part(run):
    """v2 after a part of v1 was read, the same part again: bytes beside the changed blobs'."""
    before, after = run.repository.files("v1"), run.repository.files("v2")
    changed = sorted(p for p in after if p in before and after[p][0] != before[p][0])
    names = changed[::2] + run.repository.sample(200)
    names = [name for name in dict.fromkeys(names) if name in after]
    cache = env.folder("cache")
    with run.mounted(cache=cache) as mount:
        _read(mount.path, names)
        mount.idle()
    with run.mounted(tag="v2", cache=cache) as mount:
        mount.idle()
        reading = run.after_mount(lambda path: _read(path, names), mount)
    run.put("next-tag.part", reading)
    wanted = sum(len(zlib.compress(_blob(run, after[p][0]))) for p in names
                 if after[p][0] != before.get(p, (None,))[0])
    run.value("next-tag.part.ratio-bytes-changed", "x", reading.down / wanted)
    shutil.rmtree(cache)


def readers(run):
    """Files per second of 1, 8 and 32 readers of 512 files chosen at random."""
    names = run.repository.sample(512)
    listing = env.folder("names") / "names"
    listing.write_bytes(b"\0".join(names))
    for count in (1, 8, 32):
        command = f"xargs -0 -a {listing} -P {count} -n {len(names) // count} cat | cat"
        with run.mounted() as mount:
            run.put(f"readers-{count}.cold",
                    run.after_mount(command, mount, files=len(names)))
        run.warm_and_hot(f"readers-{count}", command, files=len(names))


def memory(run):
    """Of a crawl of everything, and what is kept for each file that is known."""
    with run.mounted() as mount:
        before = proc.status_field(mount.pid, "RssAnon")
        run.put("memory.stat", run.after_mount(FIND_STAT, mount))
        kept_kib = proc.status_field(mount.pid, "RssAnon") - before
        run.value("memory.stat.per-file", "B", kept_kib * 1024 / len(run.repository.files()))
        run.put("memory.crawl", run.after_mount(READ_ALL, mount))


def sequential(run):
    """A whole large file after the mount, beside one curl and rclone's mount."""
    for name, label in ((BIG, "256MiB"), (HALF, "256MiB-half"), (BIGGEST, "1GiB")):
        command, size = f"dd if={os.fsdecode(name)} of=/dev/null bs=1M", _size(run, name)
        with run.mounted() as mount:
            reading = run.after_mount(command, mount, read=size)
        curl = competitors.curl(run.stage, name)
        run.put(f"sequential-{label}.cold", reading, curl=curl, **_rclone(run, command))
        if name == BIG:
            with run.mounted() as mount:
                _as_a_user(mount)
                run.put(f"sequential-{label}-user.cold",
                        run.after_mount(command, mount, read=size), curl=curl)


def random_reads(run):
    """1 MiB at 16 random places of the largest file."""
    rng = random.Random(16)
    places = [rng.randrange(_size(run, BIGGEST) - MIB) for _ in range(16)]

    def command(path):
        _read_at(path, BIGGEST, places, MIB)
    with run.mounted() as mount:
        reading = run.after_mount(command, mount, read=MIB * len(places))
    ranges = " ".join(f"{at}-{at + MIB - 1}" for at in places)
    run.put("random-1MiB.cold", reading, curl=competitors.curl(run.stage, BIGGEST, ranges),
            **_rclone(run, command))
    with run.mounted() as mount:
        _as_a_user(mount)
        run.put("random-1MiB-user.cold", run.after_mount(command, mount, read=MIB * len(places)))


def first_byte_big(run):
    """Of the largest file, after the mount; round trips and bytes."""
    with run.mounted() as mount:
        reading = run.after_mount(lambda path: _first(path, BIGGEST), mount)
    run.put("first-byte-1GiB.cold", reading)
    if run.stage.profile.rtt_ms:
        run.value("first-byte-1GiB.cold.round-trips", "n",
                  reading.seconds * 1000 / run.stage.profile.rtt_ms)


# what they need

def _rclone(run, command):
    if not competitors.have_rclone():
        return {}
    with competitors.Rclone(run.stage) as rclone:
        return {"rclone": timed(command, rclone.path)}


def _as_a_user(mount):
    """What the kernel asks for in one request where the mount is not root's: 128 KiB."""
    dev = os.stat(mount.path).st_dev
    path = f"/sys/class/bdi/{os.major(dev)}:{os.minor(dev)}/read_ahead_kb"
    with open(path, "w", encoding="ascii") as file:
        file.write("128\n")


def _first(path, name):
    fd = os.open(path_of(path, name), os.O_RDONLY)
    os.read(fd, 1)
    os.close(fd)


def _read(path, names):
    for name in names:
        with open(path_of(path, name), "rb") as file:
            file.read()


def _read_at(path, name, places, length):
    fd = os.open(path_of(path, name), os.O_RDONLY)
    for at in places:
        if len(os.pread(fd, length, at)) != length:
            raise RuntimeError(f"short read at {at}")
    os.close(fd)


def _size(run, name):
    return run.repository.files()[name][1]


def _blob(run, oid):
    return env.git("cat-file", "blob", oid, cwd=run.repository.path, text=False)


_TREES, _NOT_LINUX = ("small", "medium", "linux"), ("small", "medium")
QUESTIONS = {
    "mount-ls": (mount_ls, _TREES), "first-byte": (first_byte, _TREES),
    "find": (find, _NOT_LINUX), "find-stat": (find_stat, _NOT_LINUX),
    "ls-lR": (ls_lr, _TREES), "ls-lR-sizes": (ls_lr_sizes, _NOT_LINUX),
    "grep": (grep, _TREES), "rg": (rg, _NOT_LINUX), "tar": (tar, _NOT_LINUX),
    "build": (build, ("small",)), "next-tag": (next_tag, _TREES),
    "next-tag-part": (next_tag_part, _TREES), "readers": (readers, _NOT_LINUX),
    "memory": (memory, ("linux",)), "sequential": (sequential, ("big",)),
    "random": (random_reads, ("big",)), "first-byte-big": (first_byte_big, ("big",)),
}
