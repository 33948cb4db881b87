"""Looks for what a Cortex-A53 with erratum 843419 may do wrongly; see tools/build/debian/arm64.sh.

    python3 tools/build/errata.py EXECUTABLE

The first sequence of Arm's notice, as lld looks for it: an ADRP in the last 8 bytes of a 4 KiB page; a
load or store of one register, a store of two or an ST1, which does not write ADRP's register; at most one
more instruction, no branch; a load or store with an immediate offset from that register. A linker moves
the last of them away.
"""

import struct
import sys
from pathlib import Path


def code(elf):
    """(address, bytes) of the executable segments of a 64-bit little-endian ELF file."""
    start, = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    for header in range(start, start + size * count, size):
        kind, flags, offset, address, _, length = struct.unpack_from("<IIQQQQ", elf, header)
        if kind == 1 and flags & 1:
            yield address, elf[offset:offset + length]


def is_second(word):
    one = word & 0x3A000000 == 0x38000000 or word & 0x3B000000 == 0x18000000
    exclusive = word & 0x3F000000 == 0x08000000
    two_stored = word & 0x3A400000 == 0x28000000
    st1 = word & 0xBE400000 == 0x0C000000
    return one or exclusive or two_stored or st1


def loads(word, register):
    """A load of one general register, this one; a prefetch loads none."""
    is_load = word & 0x00C00000 != 0 and word & 0xC0C00000 != 0xC0800000
    one = word & 0x3E000000 == 0x38000000 and is_load
    literal = word & 0x3F000000 == 0x18000000
    return (one or literal) and word & 31 == register


def is_branch(word):
    return (word & 0xFE000000 in (0xD6000000, 0x54000000)
            or word & 0x7C000000 in (0x14000000, 0x34000000))


def has_base(word, register):
    """A load or store of one register with an unsigned immediate offset from `register`."""
    return word & 0x3B000000 == 0x39000000 and word >> 5 & 31 == register


def sequences(address, data):
    words = memoryview(data[:len(data) // 4 * 4]).cast("I")
    for page in range(-address % 4096, len(data) + 4096, 4096):
        for at in [page - 8, page - 4]:
            i = at // 4
            if i < 0 or i + 2 >= len(words) or words[i] & 0x9F000000 != 0x90000000:
                continue
            register = words[i] & 31
            second, third, fourth = (words[i + k] if i + k < len(words) else 0 for k in [1, 2, 3])
            if is_second(second) and not loads(second, register) and (
                    has_base(third, register)
                    or not is_branch(third) and has_base(fourth, register)):
                yield address + at


def main():
    found = [at for part in code(Path(sys.argv[1]).read_bytes()) for at in sequences(*part)]
    if found:
        sys.exit(f"{sys.argv[1]}: erratum 843419 of the Cortex-A53 at "
                 + ", ".join(f"{at:#x}" for at in found))
    print(f"{sys.argv[1]}: nothing for the Cortex-A53's erratum 843419")


if __name__ == "__main__":
    main()
