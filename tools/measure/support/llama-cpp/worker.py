"""llama.cpp at work: one process that keeps a model, told on stdin what to time, a JSON line each.

    {"op": "load", "model": …, "mmproj": …, "threads": 2, "kv": "f16", "context": 1024}
    {"op": "prefill", "tokens": 512} · {"op": "decode", "tokens": 64} · {"op": "encode"}
    {"op": "first_token", "text": 64, "image": FILE} · {"op": "memory"}
    {"op": "check", "before": […], "image": FILE, "after": […], "out": FILE}

Every answer is one line too; times are in milliseconds.
"""

import ctypes
import json
import os
import sys
import time

import llama_cpp as llama
import numpy as np
from llama_cpp import mtmd_cpp as mtmd


def resident(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))


class Worker:
    def __init__(self):
        self.base_bytes = resident("VmHWM")
        llama.llama_backend_init()
        self.silence = llama.llama_log_callback(lambda level, text, data: None)
        if not os.environ.get("PEER_LOG"):
            llama.llama_log_set(self.silence, ctypes.c_void_p(0))
            mtmd.mtmd_log_set(self.silence, ctypes.c_void_p(0))
            mtmd.mtmd_helper_log_set(self.silence, ctypes.c_void_p(0))
        self.vision = None

    def load(self, request):
        start = time.perf_counter()
        self.model = llama.llama_model_load_from_file(
            request["model"].encode(), llama.llama_model_default_params()
        )
        options = llama.llama_context_default_params()
        options.n_ctx = request["context"]
        # Smaller ones would cut the image's rows into pieces.
        options.n_batch = options.n_ubatch = request["batch"]
        options.n_threads = options.n_threads_batch = request["threads"]
        options.flash_attn_type = 1
        kinds = {"f16": llama.GGML_TYPE_F16, "int8": llama.GGML_TYPE_Q8_0}
        options.type_k = options.type_v = kinds[request["kv"]]
        self.context = llama.llama_init_from_model(self.model, options)
        self.batch_size = request["batch"]
        self.vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.model))
        if request.get("mmproj"):
            options = mtmd.mtmd_context_params_default()
            options.use_gpu = False
            options.print_timings = False
            options.n_threads = request["threads"]
            options.warmup = False
            options.flash_attn_type = 1
            path = request["mmproj"].encode()
            self.vision = mtmd.mtmd_init_from_file(path, self.model, options)
        if not self.model or not self.context or (request.get("mmproj") and not self.vision):
            raise RuntimeError("loading failed; PEER_LOG=1 says why")
        return {"ms": 1e3 * (time.perf_counter() - start), "system": self.system()}

    def system(self):
        return llama.llama_print_system_info().decode()

    def clear(self):
        llama.llama_memory_clear(llama.llama_get_memory(self.context), True)

    def tokens(self, count):
        return np.random.default_rng(1).integers(300, self.vocabulary, count).tolist()

    def run(self, ids, position):
        """Rows of text behind `position`; the last one's logits."""
        batch = llama.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, id in enumerate(ids):
            batch.token[i] = id
            batch.pos[i] = position + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = i == len(ids) - 1
        if llama.llama_decode(self.context, batch) != 0:
            raise RuntimeError("llama_decode failed")
        llama.llama_batch_free(batch)

    def logits(self):
        pointer = llama.llama_get_logits_ith(self.context, -1)
        return np.ctypeslib.as_array(pointer, (self.vocabulary,)).copy()

    def prefill(self, request):
        ids = self.tokens(request["tokens"])
        self.clear()
        start = time.perf_counter()
        self.run(ids, 0)
        self.logits()
        return {"ms": 1e3 * (time.perf_counter() - start)}

    def decode(self, request):
        self.clear()
        token = 1
        start = time.perf_counter()
        for position in range(request["tokens"]):
            self.run([token], position)
            pointer = llama.llama_get_logits_ith(self.context, -1)
            token = int(np.argmax(np.ctypeslib.as_array(pointer, (self.vocabulary,))))
        return {"ms": 1e3 * (time.perf_counter() - start)}

    def image_chunk(self, path):
        wrapper = mtmd.mtmd_helper_bitmap_init_from_file(self.vision, path.encode(), False)
        bitmap = getattr(wrapper, "bitmap", wrapper)
        chunks = mtmd.mtmd_input_chunks_init()
        marker = mtmd.mtmd_default_marker()
        text = mtmd.mtmd_input_text(marker, len(marker), False, True)
        bitmaps = (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
        if mtmd.mtmd_tokenize(self.vision, chunks, ctypes.byref(text), bitmaps, 1) != 0:
            raise RuntimeError("mtmd_tokenize failed")
        for i in range(mtmd.mtmd_input_chunks_size(chunks)):
            chunk = mtmd.mtmd_input_chunks_get(chunks, i)
            if mtmd.mtmd_input_chunk_get_tokens_image(chunk):
                return chunk
        raise RuntimeError("no image in the chunks")

    def encode_chunk(self, chunk):
        if mtmd.mtmd_encode_chunk(self.vision, chunk) != 0:
            raise RuntimeError("mtmd_encode_chunk failed")

    def encode(self, request):
        chunk = self.image_chunk(request["image"])
        start = time.perf_counter()
        self.encode_chunk(chunk)
        return {"ms": 1e3 * (time.perf_counter() - start)}

    def show(self, chunk, position):
        """The image's rows behind `position`; returns the next one."""
        self.encode_chunk(chunk)
        features = mtmd.mtmd_get_output_embd(self.vision)
        end = llama.llama_pos(0)
        if mtmd.mtmd_helper_decode_image_chunk(
            self.vision, self.context, chunk, features, position, 0, self.batch_size,
            ctypes.byref(end), ctypes.cast(None, mtmd.mtmd_helper_post_decode_callback), None,
        ) != 0:  # fmt: skip
            raise RuntimeError("mtmd_helper_decode_image_chunk failed")
        return end.value

    def first_token(self, request):
        ids = self.tokens(request["text"])
        half = len(ids) // 2
        self.clear()
        start = time.perf_counter()
        chunk = self.image_chunk(request["image"])
        self.run(ids[:half], 0)
        self.run(ids[half:], self.show(chunk, half))
        int(np.argmax(self.logits()))
        return {"ms": 1e3 * (time.perf_counter() - start)}

    def check(self, request):
        """Logits behind `before`, an image or none, and `after`."""
        self.clear()
        position = 0
        if request["before"]:
            self.run(request["before"], 0)
            position = len(request["before"])
        if request.get("image"):
            position = self.show(self.image_chunk(request["image"]), position)
        if request["after"]:
            self.run(request["after"], position)
        self.logits().astype("<f4").tofile(request["out"])
        return {}

    def memory(self, _):
        # What Python and the libraries took before anything was loaded is not the peer's.
        return {"peak_bytes": resident("VmHWM") - self.base_bytes}


def main():
    worker = Worker()
    # The libraries print on stdout now and then.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request["op"])(request)
        except Exception as error:  # one line tells the driver; the worker goes on
            answer = {"error": str(error)}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
