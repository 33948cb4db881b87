"""llama.cpp at work: one process that keeps a model, told on stdin what to time, a JSON line each.

    {"op": "load", "model": …, "mmproj": …, "threads": 2, "kv": "f16", "context": 1024}
    {"op": "prefill", "tokens": 512} · {"op": "decode", "tokens": 64} · {"op": "encode", "image": FILE}
    {"op": "rows", "image": FILE} · {"op": "first_token", "text": 64, "image": FILE} · {"op": "memory"}
    {"op": "check", "before": […], "image": FILE, "after": […], "out": FILE}

`load` may have "spelled": {token: […]}, for tokens around an image that stand for others.

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
        self.vision = self.chunks = None

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
        self.spelled = {int(token): ids for token, ids in request.get("spelled", {}).items()}
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

    def pieces(self, path):
        """An image as the peer cuts it: text as a list of tokens, a tile as its chunk."""
        wrapper = mtmd.mtmd_helper_bitmap_init_from_file(self.vision, path.encode(), False)
        bitmap = getattr(wrapper, "bitmap", wrapper)
        if self.chunks:
            mtmd.mtmd_input_chunks_free(self.chunks)
        self.chunks = mtmd.mtmd_input_chunks_init()
        marker = mtmd.mtmd_default_marker()
        text = mtmd.mtmd_input_text(marker, len(marker), False, True)
        bitmaps = (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
        if mtmd.mtmd_tokenize(self.vision, self.chunks, ctypes.byref(text), bitmaps, 1) != 0:
            raise RuntimeError("mtmd_tokenize failed")
        mtmd.mtmd_bitmap_free(bitmap)
        pieces = []
        for i in range(mtmd.mtmd_input_chunks_size(self.chunks)):
            chunk = mtmd.mtmd_input_chunks_get(self.chunks, i)
            pieces.append(chunk if mtmd.mtmd_input_chunk_get_tokens_image(chunk) else self.text_of(chunk))
        return pieces

    def text_of(self, chunk):
        count = ctypes.c_size_t(0)
        ids = mtmd.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
        return [id for token in ids[: count.value] for id in self.spelled.get(token, [token])]

    def tiles(self, path):
        return [piece for piece in self.pieces(path) if not isinstance(piece, list)]

    def rows(self, request):
        """What of the decoder's rows an image takes, and the text that the peer puts around it."""
        pieces = self.pieces(request["image"])
        tiles = [piece for piece in pieces if not isinstance(piece, list)]
        tokens = sum(mtmd.mtmd_input_chunk_get_n_tokens(tile) for tile in tiles)
        text = sum(len(piece) for piece in pieces if isinstance(piece, list))
        return {"tiles": len(tiles), "visual_tokens": tokens, "text": text}

    def encode_tile(self, tile):
        if mtmd.mtmd_encode_chunk(self.vision, tile) != 0:
            raise RuntimeError("mtmd_encode_chunk failed")

    def encode(self, request):
        tiles = self.tiles(request["image"])
        start = time.perf_counter()
        for tile in tiles:
            self.encode_tile(tile)
        return {"ms": 1e3 * (time.perf_counter() - start)}

    def show(self, tile, position):
        """A tile's rows behind `position`; returns the next one."""
        self.encode_tile(tile)
        features = mtmd.mtmd_get_output_embd(self.vision)
        end = llama.llama_pos(0)
        if mtmd.mtmd_helper_decode_image_chunk(
            self.vision, self.context, tile, features, position, 0, self.batch_size,
            ctypes.byref(end), ctypes.cast(None, mtmd.mtmd_helper_post_decode_callback), None,
        ) != 0:  # fmt: skip
            raise RuntimeError("mtmd_helper_decode_image_chunk failed")
        return end.value

    def run_pieces(self, pieces):
        """As mtmd_helper_eval_chunks does: each tile by itself, and the text between two at once."""
        position, text = 0, []
        for piece in [*pieces, None]:
            if isinstance(piece, list):
                text = text + piece
                continue
            if text:
                self.run(text, position)
                position, text = position + len(text), []
            if piece is not None:
                position = self.show(piece, position)

    def first_token(self, request):
        ids = self.tokens(request["text"])
        half = len(ids) // 2
        self.clear()
        start = time.perf_counter()
        self.run_pieces([ids[:half], *self.pieces(request["image"]), ids[half:]])
        int(np.argmax(self.logits()))
        return {"ms": 1e3 * (time.perf_counter() - start)}

    def check(self, request):
        """Logits behind `before`, an image or none, and `after`."""
        image = self.pieces(request["image"]) if request.get("image") else []
        self.clear()
        self.run_pieces([request["before"], *image, request["after"]])
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
