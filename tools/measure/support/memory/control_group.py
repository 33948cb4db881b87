"""A memory control group, version 1 or 2, whose limit counts everything that its processes bring in."""

import os
import subprocess
import time
from pathlib import Path


class Unavailable(Exception):
    """This process may not make such a group here."""


def mounts():
    """(mount point, the group that is its root, version) of every mount that may hold memory groups."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split()[:3]
        root, point = fields.split()[3:5]
        if kind == "cgroup2":
            yield Path(point), root, 2
        elif kind == "cgroup" and "memory" in options.split(","):
            yield Path(point), root, 1


def own_group(version):
    """The path of this process's group in the hierarchy of that version."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "" if version == 2 else "memory" in controllers.split(","):
            return path
    return "/"


def parents():
    """Folders in which a group with a memory limit might be made, the nearest first."""
    for point, root, version in sorted(mounts(), key=lambda mount: mount[2]):
        path = own_group(version)
        if root != "/":
            # A container sees its own group as the mount's root.
            path = path[len(root) :] if path.startswith(root) else "/"
        folder = point / path.lstrip("/")
        while True:
            if folder.is_dir():
                yield folder, version
            if folder == point:
                break
            folder = folder.parent


class ControlGroup:
    """A group of its own below this process's, with `limit` bytes, swap included; empty and gone after `with`."""

    def __init__(self, limit):
        self.limit = limit
        reasons = []
        for parent, version in parents():
            try:
                self._make(parent, version)
                return
            except OSError as error:
                reasons.append(f"{parent}: {error.strerror}")
        raise Unavailable("; ".join(reasons) or "no control groups are mounted")

    def _make(self, parent, version):
        if version == 2 and "memory" not in (parent / "cgroup.subtree_control").read_text().split():
            # Refused where the parent has processes of its own and is not the root.
            (parent / "cgroup.subtree_control").write_text("+memory")
        folder = parent / f"pioedge-{os.getpid()}-{time.monotonic_ns()}"
        folder.mkdir()
        self.folder, self.version = folder, version
        try:
            if version == 1:
                self._write("memory.limit_in_bytes", self.limit)
                if (folder / "memory.memsw.limit_in_bytes").exists():
                    self._write("memory.memsw.limit_in_bytes", self.limit)
                elif len(Path("/proc/swaps").read_text().splitlines()) > 1:
                    raise OSError(0, "this machine swaps and its groups cannot forbid it")
            else:
                self._write("memory.max", self.limit)
                if (folder / "memory.swap.max").exists():
                    self._write("memory.swap.max", 0)
        except OSError:
            folder.rmdir()
            raise

    def launch(self, command, **options):
        """subprocess.Popen inside the group: what the command brings in counts from its first page on."""
        processes = str(self.folder / "cgroup.procs")

        def enter():
            with open(processes, "w") as file:
                file.write("0")

        return subprocess.Popen(command, preexec_fn=enter, **options)

    @property
    def peak_bytes(self):
        """The most that the group ever held; None before Linux 5.19 in version 2."""
        name = "memory.max_usage_in_bytes" if self.version == 1 else "memory.peak"
        return int(self._read(name)) if (self.folder / name).exists() else None

    @property
    def usage_bytes(self):
        return int(self._read("memory.usage_in_bytes" if self.version == 1 else "memory.current"))

    @property
    def kills(self):
        """Processes that the kernel ended for want of memory."""
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        return self._field(name, "oom_kill")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for _ in range(50):
            try:
                self.folder.rmdir()
                return
            except OSError:
                # A process that has just ended is in the group for a moment longer.
                time.sleep(0.02)

    def _read(self, name):
        return (self.folder / name).read_text().strip()

    def _write(self, name, value):
        (self.folder / name).write_text(str(value))

    def _field(self, name, field):
        for line in self._read(name).splitlines():
            if line.split()[0] == field:
                return int(line.split()[1])
        return 0
