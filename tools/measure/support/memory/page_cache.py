"""What of a file is in the page cache, and how to have none of it there."""

import ctypes
import mmap
import os
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]

MAP_SHARED = 1
MAP_FAILED = ctypes.c_void_p(-1).value


def cached_bytes(path):
    """Bytes of the file that are in memory, by mincore(2)."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        address = libc.mmap(None, size, mmap.PROT_READ, MAP_SHARED, file.fileno(), 0)
    if address == MAP_FAILED:
        raise OSError(ctypes.get_errno(), f"cannot map {path}")
    try:
        pages = -(-size // mmap.PAGESIZE)
        flags = ctypes.create_string_buffer(pages)
        if libc.mincore(address, size, flags) != 0:
            raise OSError(ctypes.get_errno(), f"mincore on {path}")
        return sum(flag & 1 for flag in flags.raw[:pages]) * mmap.PAGESIZE
    finally:
        libc.munmap(address, size)


def drop(path):
    """Writes the file out and takes it out of the page cache; raises where some of it stays (tmpfs has no disk)."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
        # Pages that are on their way to a list of the kernel's cannot be dropped at the moment.
        for _ in range(10):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            if cached_bytes(path) == 0:
                return
            time.sleep(0.1)
    left = cached_bytes(path)
    raise OSError(f"{left} bytes of {path} stay in the page cache: is it on a disk?")


def disk_bytes_per_second(path, chunk=2 << 20, limit=1 << 30):
    """How fast the file (its first `limit` bytes) comes from the disk in order, by read(2) and a cold cache.

    With the kernel's read-ahead that is about twice what O_DIRECT gives with one read at a time.
    """
    drop(path)
    buffer = memoryview(bytearray(chunk))
    with open(path, "rb", buffering=0) as file:
        done, start = 0, time.monotonic()
        while done < limit and (count := file.readinto(buffer)):
            done += count
        seconds = time.monotonic() - start
    drop(path)
    return done / seconds
