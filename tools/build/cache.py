"""What is made once and kept under ~/.cache/pioedge (or XDG_CACHE_HOME), as cache.sh does it for scripts."""

import fcntl
import os
import shutil
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pioedge"


def made(path, make):
    """`path`; where it is missing, `make(partial)` makes it first, a file or a folder, under another name.

    One process makes it and the others wait. What a killed one left behind is removed.
    """
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            for left in path.parent.glob(f"{path.name}.partial-*"):
                remove(left)
            # Of this process alone: a child of a killed one may still be writing.
            partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
            make(partial)
            partial.rename(path)
    return path


def remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
