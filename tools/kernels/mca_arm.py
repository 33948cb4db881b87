"""Prints llvm-mca's cycles of the ARM products' loops; see tools/mca-arm."""

import re
import subprocess
import sys
from pathlib import Path

# Model in llvm-mca, the cores it stands for, whether they have smmla, and multiply-adds a cycle by
# Arm's optimization guide where it was at hand (A76: two sdot a cycle).
CORES = [
    ("cortex-a55", "Cortex-A55", False, {}),
    ("neoverse-n1", "Cortex-A76", False, {"sdot": 32}),
    ("neoverse-n2", "Cortex-A710", True, {}),
    ("neoverse-v1", "Cortex-X1", True, {}),
]
MACS = {"sdot": 16, "smmla": 32}
TILES = {"sdot": ("dotprod", 8), "smmla": ("i8mm", 8)}


def cycles(text, cpu, iterations=200):
    """Cycles of one pass over a run of instructions, repeated."""
    result = subprocess.run(
        ["llvm-mca-19", "-mtriple=aarch64-linux-gnu", f"-mcpu={cpu}", "-mattr=+dotprod,+i8mm",
         f"-iterations={iterations}", "-instruction-info=0", "-resource-pressure=0"],
        input=text, capture_output=True, text=True, check=True)
    return int(re.search(r"Total Cycles:\s+(\d+)", result.stdout)[1]) / iterations


def peak(instruction, cpu):
    """Multiply-adds a cycle of 16 independent chains."""
    lines = [f"{instruction} v{8 + i}.4s, v0.16b, v1.16b" for i in range(16)]
    return 16 * MACS[instruction] / cycles("\n".join(lines), cpu)


def peak_by_lane(cpu):
    """The same for the form of sdot that takes 4 values from a lane, which the kernels use."""
    lines = [f"sdot v{8 + i}.4s, v0.16b, v1.4b[{i % 4}]" for i in range(16)]
    return 16 * MACS["sdot"] / cycles("\n".join(lines), cpu)


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


def group_loop(lines, instruction):
    """What runs for one group of 32 columns: the smallest loop that holds all multiplications,
    each of its inner loops passed once; and its innermost loop alone."""
    def count(loop):
        return sum(text.split()[0] == instruction for text in region(lines, loop))
    with_work = [loop for loop in loops(lines) if count(loop) > 0]
    inner = with_work[0]
    outer = next(loop for loop in with_work if count(loop) > count(inner) or loop[0] < inner[0])
    return region(lines, inner), region(lines, outer)


def measure(folder):
    best = {}
    print("llvm-mca 19; MACs a cycle; share: of a loop of nothing but that instruction in the same model")
    print(f"{'core (model)':34} {'instr':6} {'peak':>5} {'guide':>5}  {'weights':7} "
          f"{'inner loop':>19}  {'whole group of 32':>19}")
    for cpu, core, has_smmla, guide in CORES:
        for instruction in ["sdot", "smmla"] if has_smmla else ["sdot"]:
            isa, tokens = TILES[instruction]
            assembly = (folder / f"{isa}.s").read_text()
            top = peak_by_lane(cpu) if instruction == "sdot" else peak(instruction, cpu)
            for quant in ["INT4", "INT8"]:
                lines = function(assembly, f"tile_{tokens}_PIO_{quant}")
                row = []
                for part in group_loop(lines, instruction):
                    macs = MACS[instruction] * sum(t.split()[0] == instruction for t in part)
                    rate = macs / cycles("\n".join(plain(part)), cpu)
                    row.append(f"{rate:8.1f} = {100 * rate / top:5.1f} %")
                    best[cpu, instruction, quant] = rate
                print(f"{core + ' (' + cpu + ')':34.34} {instruction:6} {top:5.1f} "
                      f"{guide.get(instruction, '-'):>5} {quant.lower():>8}  {row[0]:>19}  {row[1]:>19}")
    return best


def plain(lines):
    """Without jumps to labels that the fragment does not have."""
    return [re.sub(r"\.L\w+$", "#8", line) for line in lines]


# A 1.1B Llama: 22 layers of width 2,048, MLP 5,632, 4 KV heads of 64, vocabulary 32,000.
LAYER_WEIGHTS = 22 * (2 * 2048 * 2048 + 2 * 2048 * 256 + 3 * 2048 * 5632)
HEAD_WEIGHTS = 32000 * 2048
BYTES_A_WEIGHT = 288 / 512  # int4, groups of 32, f16 scales


def predict(best):
    """From the whole group's rate on four A76 at 2.4 GHz, attention and all else left out."""
    rate = best["neoverse-n1", "sdot", "INT4"]
    prefill = 4 * 2.4e9 * rate / LAYER_WEIGHTS
    size = (LAYER_WEIGHTS + HEAD_WEIGHTS) * BYTES_A_WEIGHT
    print("\n1.1B Llama, int4 groups of 32, four A76 at 2.4 GHz, matrix products alone (an upper bound):")
    # Bytes a second: what llama.cpp is known to reach in decoding there (tokens/s x model bytes),
    # and the memory's own peak.
    for board, reached, peak_bytes in [("Raspberry Pi 5", 11e9, 17.1e9), ("RK3588", 24e9, 34e9)]:
        print(f"  {board:15} prefill {prefill:5.0f} tok/s; decode {reached / size:4.1f} tok/s at "
              f"{reached / 1e9:.0f} GB/s, {0.85 * peak_bytes / size:4.1f} at 85 % of "
              f"{peak_bytes / 1e9:.1f} GB/s")
    print("Published for llama.cpp (and llamafile), prefill / decode tok/s:")
    print("  Raspberry Pi 5  TinyLlama 1.1B Q8_0 45 / 9; LFM2-700M Q6_K 106 / 18, Q5_K 90 / 21")
    print("  RK3588          3.6B Q4_0 50 / 12 (of 1.1B's size: about 175 / 41)")


if __name__ == "__main__":
    predict(measure(Path(sys.argv[1])))
