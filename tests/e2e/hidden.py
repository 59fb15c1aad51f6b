"""Where a secret of a mount might show: nowhere, it is hoped."""

import os
import stat

from . import env, proc


def places(mount, tree):
    """name -> bytes of everywhere a secret might show."""
    seen = {"status": proc.xcpfs("status", "--json", mount.path),
            "status of all": proc.xcpfs("status"),
            "stats": proc.xcpfs("stats", "--json", mount.path),
            "status of a file": proc.xcpfs("status", "--json", mount.path + "/file1"),
            "what mount said": mount.result}
    seen = {name: (r.out + r.err).encode() for name, r in seen.items()}
    seen["the log"] = mount.log().encode()
    for name in ("mounts", "self/mountinfo"):
        with open("/proc/" + name, "rb") as file:
            seen["/proc/" + name] = file.read()
    for pid in tree:
        for name in ("cmdline", "environ", "comm"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as file:
                    seen[f"/proc/{pid}/{name}"] = file.read()
            except OSError:
                pass
    for folder in (mount.cache, env.scratch() / "run"):
        for where, _, names in os.walk(folder):
            for name in names:
                path = os.path.join(where, name)
                if stat.S_ISREG(os.lstat(path).st_mode):
                    with open(path, "rb") as file:
                        seen[path] = file.read()
    return seen


def check(t, mount, secrets, how):
    """That none of these bytes shows anywhere."""
    tree = proc.program_children()
    t.ok(mount.pid in tree, f"{how}: the daemon is looked at")
    seen = places(mount, tree)
    shown = [f"{name}" for name, data in seen.items() for s in secrets if s in data]
    t.equal(shown, [], f"{how}: places that show the secret")
    t.at_least(len(seen), 12, f"{how}: places looked at")
