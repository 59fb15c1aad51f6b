"""The benchmark of xcpfs: see bench/README.md.

bench.py is the way in; each module is about one noun. What starts servers, mounts and
downloads is the package of the stories (tests/e2e).
"""

import os
import sys
from pathlib import Path

_TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(_TOP / "tests"))
os.environ.setdefault("top_srcdir", str(_TOP))
os.environ.setdefault("top_builddir", str(_TOP / "build"))
os.environ["XCPFS_E2E_WORK"] = os.environ.get(
    "XCPFS_BENCH_DIR", os.path.join(os.environ["top_builddir"], "bench-work"))
