"""The folder of repositories a server serves: each one borrows the objects of a repository
made once (alternates) and has a configuration of its own.
"""

import os
import shutil
from pathlib import Path

from . import env


class Served:
    """A root folder; add() puts a repository in it under a name such as `owner/repo.git`."""

    def __init__(self, root):
        self.root = Path(root)

    def add(self, source, name=None, filters=True, object_info=True, v0=False, config=()):
        """Returns the path of the repository served; later calls with a name replace it."""
        source = Path(source)
        name = name or source.name
        where = self.root / name
        if where.exists():
            shutil.rmtree(where)
        shutil.copytree(source, where, ignore=lambda folder, names:
                        ["objects"] if os.fspath(folder) == os.fspath(source) else [])
        (where / "objects" / "info").mkdir(parents=True)
        (where / "objects" / "pack").mkdir()
        (where / "objects" / "info" / "alternates").write_text(f"{source / 'objects'}\n")
        settings = [("uploadpack.allowFilter", filters),
                    ("transfer.advertiseObjectInfo", object_info), *config]
        for key, value in settings:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            env.git("config", "-f", str(where / "config"), key, text)
        if v0:
            (where / "e2e-v0").touch()
        if not object_info:
            (where / "e2e-no-object-info").touch()
        return where
