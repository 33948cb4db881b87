"""Prints llvm-mca's cycles of the ARM products' loops; see tools/measure/mca."""

import re
import subprocess
import sys
from pathlib import Path

# Model in llvm-mca, the core it stands for, and its instructions with the multiply-adds a cycle that
# Arm's optimization guide gives, where that was at hand. LLVM made the models of N1, N2 and V1 from
# the guides of these cores, which are A76, A710 and X1 to this arithmetic; it has none of its own for
# A72 (it takes A57's) and is known to be off for A55's loads.
CORES = [
    ("cortex-a55", "Cortex-A55", {"sdot": None}),
    ("cortex-a72", "Cortex-A72 (as A57)", {"smlal": 8}),
    ("neoverse-n1", "Cortex-A76 (N1)", {"sdot": 32}),
    ("neoverse-n2", "Cortex-A710 (N2)", {"sdot": 32, "usmmla": 64}),
    ("neoverse-v1", "Cortex-X1/X2 (V1)", {"sdot": 64, "usmmla": 128}),
]
MACS = {"smlal": 8, "sdot": 16, "usmmla": 32}
# File, and tokens of the tile that a long prompt goes through.
TILES = {"smlal": ("neon", 4), "sdot": ("dotprod", 8), "usmmla": ("i8mm", 8)}
GROUPS = [32, 64, 128]


def cycles(text, cpu, iterations=200):
    """Cycles of one pass over a run of instructions, repeated."""
    result = subprocess.run(
        ["llvm-mca-19", "-mtriple=aarch64-linux-gnu", f"-mcpu={cpu}", "-mattr=+dotprod,+i8mm",
         f"-iterations={iterations}", "-instruction-info=0", "-resource-pressure=0"],
        input=text, capture_output=True, text=True, check=True)
    return int(re.search(r"Total Cycles:\s+(\d+)", result.stdout)[1]) / iterations


def peak(instruction, cpu):
    """Multiply-adds a cycle of 16 independent chains, in the form that the kernels use."""
    operands = {
        "smlal": lambda i: f"smlal{'2' if i % 2 else ''} v{8 + i}.8h, "
                           + ("v0.16b, v1.16b" if i % 2 else "v0.8b, v1.8b"),
        "sdot": lambda i: f"sdot v{8 + i}.4s, v0.16b, v1.4b[{i % 4}]",
        "usmmla": lambda i: f"usmmla v{8 + i}.4s, v0.16b, v1.16b",
    }[instruction]
    return 16 * MACS[instruction] / cycles("\n".join(operands(i) for i in range(16)), cpu)


def function(assembly, name):
    """The lines of a function: (label or None, instruction)."""
    body = re.search(rf"^{name}:(.*?)^\.Lfunc_end", assembly, re.M | re.S)[1]
    lines = []
    for line in body.splitlines():
        line = line.split("//")[0].strip()
        label = re.match(r"(\.L\w+):$", line)
        if label:
            lines.append((label[1], ""))
        elif line and not line.startswith("."):
            lines.append((None, line))
    return lines


def loops(lines):
    """(first, last) of each loop, the smallest first: a jump to a label before it."""
    at = {label: i for i, (label, _) in enumerate(lines) if label}
    found = []
    for i, (_, text) in enumerate(lines):
        target = re.search(r"(\.LBB\w+)$", text) if re.match(r"(b|cb|tb)", text) else None
        if target and at.get(target[1], i) < i:
            found.append((at[target[1]], i))
    return sorted(found, key=lambda loop: loop[1] - loop[0])


def region(lines, loop):
    return [text for _, text in lines[loop[0]:loop[1] + 1] if text]


def is_work(text, instruction):
    """smull begins the sums that smlal goes on with."""
    names = {"smlal": ["smull", "smull2", "smlal", "smlal2"]}.get(instruction, [instruction])
    return text.split()[0] in names


def group_loop(lines, instruction):
    """What runs for one group: (before, once for each 32 columns, behind).

    That is the smallest loop that holds all multiplications, around the loop over 32 columns; where
    the compiler has taken the latter apart, it is the whole of it that repeats.
    """
    def count(loop):
        return sum(is_work(text, instruction) for text in region(lines, loop))
    with_work = [loop for loop in loops(lines) if count(loop) > 0]
    inner = with_work[0]
    outer = next(loop for loop in with_work if count(loop) > count(inner) or loop[0] < inner[0])
    # Where a group does several rows of four by turns, the inner loops behind the first count too.
    inners = [loop for loop in with_work if outer[0] <= loop[0] and loop[1] <= outer[1]
              and loop != outer and not any(other != loop and loop[0] <= other[0]
                                            and other[1] <= loop[1] for other in with_work)]
    return region(lines, inner), outer, inners


def with_columns(lines, outer, inners, times):
    """One pass through the outer loop, its inner ones `times` times each."""
    text, at = [], outer[0]
    for loop in inners:
        text += region(lines, (at, loop[1])) + region(lines, loop) * (times - 1)
        at = loop[1] + 1
    return text + region(lines, (at, outer[1]))


def measure(folder):
    best = {}
    print("llvm-mca 19, multiply-adds a cycle; share: of a loop of nothing but that instruction in the"
          " same model")
    print(f"{'core (model)':20} {'instr':6} {'peak':>5} {'guide':>5} {'weights':>7}  "
          f"{'loop':>15}  " + "  ".join(f"{f'whole group of {size}':>19}" for size in GROUPS)
          + "  cycles a MAC")
    for cpu, core, instructions in CORES:
        for instruction, guide in instructions.items():
            isa, tokens = TILES[instruction]
            assembly = (folder / f"{isa}.s").read_text()
            top = peak(instruction, cpu)
            for quant in ["INT4", "INT8"]:
                lines = function(assembly, f"tile_{tokens}_PIO_{quant}")
                inner, outer, inners = group_loop(lines, instruction)
                parts = [inner] + [with_columns(lines, outer, inners, size // 32)
                                   for size in GROUPS]
                rates = [rate_of(part, instruction, cpu) for part in parts]
                best[cpu, instruction, quant] = rates[1]
                cells = [f"{rate:7.1f} = {100 * rate / top:3.0f} %" for rate in rates]
                print(f"{core:20} {instruction:6} {top:5.1f} {guide or '-':>5} {quant.lower():>7}  "
                      f"{cells[0]:>15}  " + "  ".join(f"{cell:>19}" for cell in cells[1:])
                      + f"  {1 / rates[1]:12.3f}")
    return best


def rate_of(lines, instruction, cpu):
    macs = MACS[instruction] * sum(is_work(text, instruction) for text in lines)
    return macs / cycles("\n".join(plain(lines)), cpu)


def plain(lines):
    """Without jumps to labels that the fragment does not have."""
    return [re.sub(r"\.L\w+$", "#8", line) for line in lines]


# Layers, width, MLP, width of keys, vocabulary of Llamas for which llama.cpp's speed on these boards
# has been published, as (prefill, decode) tokens a second.
LLAMAS = {
    "TinyLlama 1.1B": (22, 2048, 5632, 256, 32_000),
    "Llama 3.2 3B": (28, 3072, 8192, 1024, 128_256),
    "Llama 3.1 8B": (32, 4096, 14_336, 1024, 128_256),
}
BYTES_A_WEIGHT = {"INT4": 288 / 512, "INT8": 544 / 512}  # groups of 32 with f16 scales
# Board: bytes a second that llama.cpp is known to reach there in decoding (tokens a second x bytes of
# the model), and the memory's own peak (LPDDR4X-4267, 32 and 64 bits).
BOARDS = {"Raspberry Pi 5": (11e9, 17.1e9), "RK3588": (24e9, 34.1e9)}
PUBLISHED = [
    ("Raspberry Pi 5", "TinyLlama 1.1B", "INT8", "45 / 9", "llamafile's own figures, Q8_0"),
    ("Raspberry Pi 5", "TinyLlama 1.1B", "INT4", "", ""),
    ("Raspberry Pi 5", "Llama 3.2 3B", "INT4", "- / 4.6-5.6",
     "geerlingguy/ai-benchmarks issues 7 and 24, Q4_K_M"),
    ("Raspberry Pi 5", "Llama 3.1 8B", "INT4", "- / 1.9-2.2", "the same, Q4"),
    ("RK3588", "TinyLlama 1.1B", "INT4", "", ""),
    ("RK3588", "Llama 3.2 3B", "INT4", "50 / 12",
     "ik_llama.cpp discussion 345, cogito-3B, Q4_0, with the A55 too"),
]


def predict(best):
    """From a whole group's rate on four A76 at 2.4 GHz, attention and all else left out."""
    print("\nPredicted for four A76 at 2.4 GHz, groups of 32, tokens a second: prefill from the cycles"
          " of the matrix\nproducts alone (an upper bound); decode at the bytes a second that llama.cpp"
          " reaches there, and at 85 % of\nthe memory's peak. Beside it what is published for"
          " llama.cpp (prefill / decode).")
    for board, name, quant, figures, source in PUBLISHED:
        layers, dim, hidden, keys, vocabulary = LLAMAS[name]
        weights = layers * (2 * dim * dim + 2 * dim * keys + 3 * dim * hidden)
        size = (weights + vocabulary * dim) * BYTES_A_WEIGHT[quant]
        prefill = 4 * 2.4e9 * best["neoverse-n1", "sdot", quant] / weights
        reached, top = BOARDS[board]
        print(f"  {board:14} {name:14} {quant.lower()}: prefill {prefill:4.0f}, decode "
              f"{reached / size:4.1f} at {reached / 1e9:.0f} GB/s, {0.85 * top / size:4.1f} at "
              f"{0.85 * top / 1e9:.1f} GB/s" + (f"; published {figures} ({source})" if figures else ""))
    print("  Raspberry Pi 5, LFM2-700M: published 106 / 18 as Q6_K, 90 / 21 as Q5_K (llama.cpp pull"
          " requests 19356, 19360);\n  as many weights of int4 here: prefill "
          f"{4 * 2.4e9 * best['neoverse-n1', 'sdot', 'INT4'] / 0.74e9:.0f}, decode "
          f"{11e9 / 0.74e9 / BYTES_A_WEIGHT['INT4']:.0f}")


if __name__ == "__main__":
    predict(measure(Path(sys.argv[1])))
