"""The other side's process, told what to do line by line."""

import json
import os
import subprocess
import sys
from pathlib import Path

BATCH = 1024  # at least an image's rows of one tile: they are not to be cut into pieces


class Peer:
    """One worker process with a model; every call waits for its answer."""

    def __init__(self, model, threads, mmproj=None, kv="f16", context=1024, spelled={}):
        script = Path(__file__).with_name("worker.py")
        self.process = subprocess.Popen(
            [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            stderr=None if os.environ.get("PEER_LOG") else subprocess.DEVNULL,
        )  # fmt: skip
        self.load = self.ask(
            op="load", model=str(model), mmproj=mmproj and str(mmproj), threads=threads, kv=kv,
            context=context, batch=BATCH, spelled=spelled,
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
