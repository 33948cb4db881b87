"""Counts the instructions of a prompt's row and of a token for aarch64; see tools/check/arm64.

Two prompts and two lengths of an answer, on one thread: their differences leave out the start. The
counts depend on the compiler and the code alone, so that they are held against those recorded here.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

RECORD = Path(__file__).with_name("instructions.json")
TOLERANCE = 0.03


def count(arguments, cpu, prompt, tokens):
    """(instructions, rows of the prompt, tokens of the answer) of one run."""
    command = [*arguments.launcher.split(), "-cpu", cpu, "-plugin", str(arguments.plugin),
               "-L", str(arguments.sysroot), "-E",
               f"LD_LIBRARY_PATH={arguments.sysroot}/usr/lib/swift/linux",
               str(arguments.arm), "run", str(arguments.model), "--raw", prompt, "--max-tokens", str(tokens),
               "--threads", "1", "--json"]
    result = subprocess.run(command, text=True, capture_output=True)
    found = re.search(r"instructions (\d+)", result.stderr)
    if result.returncode or not found:
        sys.exit(f"{' '.join(command)}: {result.stderr.strip()}")
    counts = json.loads(result.stdout)["counts"]
    return int(found[1]), counts["prompt_tokens"], counts["generated_tokens"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--launcher", required=True, help="an emulator that takes plugins")
    parser.add_argument("--plugin", type=Path, required=True)
    parser.add_argument("--sysroot", type=Path, required=True)
    parser.add_argument("--arm", type=Path, required=True, help="pioedge for aarch64")
    parser.add_argument("--model", type=Path, required=True, help="the demo as int4")
    parser.add_argument("--record", action="store_true", help="write the counts down as they are")
    arguments = parser.parse_args()
    found = {}
    for cpu in ["cortex-a72", "cortex-a76", "max"]:
        short, short_rows, _ = count(arguments, cpu, "circle " * 16, 1)
        long, long_rows, _ = count(arguments, cpu, "circle " * 112, 1)
        # Without an image most answers are a word; this text goes on for eight tokens.
        text = "There is a red circle, a blue"
        few, _, few_tokens = count(arguments, cpu, text, 1)
        many, _, many_tokens = count(arguments, cpu, text, 8)
        if many_tokens < few_tokens + 5:
            sys.exit(f"{cpu}: the answer ended after {many_tokens} tokens")
        found[cpu] = {
            "prefill_row": round((long - short) / (long_rows - short_rows)),
            "token": round((many - few) / (many_tokens - few_tokens)),
        }
        print(f"{cpu}: {found[cpu]['prefill_row']:,} instructions a row of a prompt, "
              f"{found[cpu]['token']:,} a token")
    if arguments.record:
        RECORD.write_text(json.dumps(found, indent=2) + "\n")
        return
    recorded = json.loads(RECORD.read_text())
    worse = [f"{cpu} {name}: {value:,} of {recorded[cpu][name]:,}"
             for cpu, values in found.items() for name, value in values.items()
             if value > (1 + TOLERANCE) * recorded[cpu][name]]
    if worse:
        sys.exit("more instructions than recorded: " + "; ".join(worse))


if __name__ == "__main__":
    main()
