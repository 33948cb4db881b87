"""Text to token ids exactly as the checkpoint's tokenizer.json does it."""

from functools import lru_cache

from tokenizers import Tokenizer

END = 2


class Codec:
    def __init__(self, path):
        self.tokenizer = Tokenizer.from_file(str(path))
        self.image = self.tokenizer.token_to_id("<image>")
        self.pad = self.tokenizer.token_to_id("<pad>")
        start = self.tokenizer.encode("USER: <image>").ids
        self.prefix = start[: start.index(self.image)]  # what stands before the image
        self.ids = lru_cache(60_000)(self._ids)

    def _ids(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids
