"""Looks for what a Cortex-A53 with erratum 843419 may do wrongly; see tools/debian/arm64.sh.

    python3 tools/arm64/errata.py EXECUTABLE

The sequence (Arm, Cortex-A53 MPCore software developers errata notice): an ADRP in the last 8 bytes of a
4 KiB page; a load or store that does not write ADRP's register; at most one more instruction, no branch;
a load or store with an immediate offset from that register. A linker moves the last of them away. Some
that are harmless are counted, as where the one more instruction writes the register: an answer may be
too strict, never too lax.
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


def is_load_or_store(word):
    return word & 0x0A000000 == 0x08000000


def loads(word, register):
    """A load of one or two general registers, this one among them."""
    if word & 0x3C000000 == 0x38000000:
        return word & 0x00C00000 != 0 and word & 31 == register
    is_pair = word & 0x3C400000 == 0x28400000
    return is_pair and register in (word & 31, word >> 10 & 31)


def is_branch(word):
    return word & 0x1C000000 == 0x14000000


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
            if is_load_or_store(second) and not loads(second, register) and (
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
