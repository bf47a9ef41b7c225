"""A small CLIP tokenizer: CLIP's byte-pair encoding with a vocabulary learnt from the drawings' captions.

Every byte is a token, with and without the end-of-word mark, so any prompt can be read; words of the captions are single tokens.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def learn(captions: Iterable[str], merges: int = 700) -> Any:
    """A CLIPTokenizer whose words are those of the captions."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    words = pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        captions,
        trainers.BpeTrainer(vocab_size=2 * len(alphabet) + merges, initial_alphabet=alphabet, end_of_word_suffix=WORD_END, show_progress=False),
    )
    learnt = json.loads(tokenizer.to_str())["model"]["merges"]
    pairs = [m if isinstance(m, str) else " ".join(m) for m in learnt][:merges]
    symbols = alphabet + [c + WORD_END for c in alphabet] + ["".join(p.split(" ")) for p in pairs] + [START, END]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        vocabulary = {symbol: i for i, symbol in enumerate(dict.fromkeys(symbols))}
        (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
        (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(pairs) + "\n", encoding="utf-8")
        marks = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77} | marks), encoding="utf-8")
        return load(folder)


def load(folder: Path) -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder)


def save_plain(tokenizer: Any, folder: Path) -> None:
    """vocab.json and merges.txt, which slow CLIP tokenizers read."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")


def said(caption: str, drop: float, thin: float, rng: np.random.Generator) -> str:
    """A caption as a row sees it: nothing for a share of `drop`, some of its tags in any order for a share of `thin`, else whole."""
    if rng.random() < drop:
        return ""
    tags = caption.split(", ")
    if rng.random() < thin:
        tags = [str(tag) for tag in rng.permutation(tags)[: rng.integers(1, len(tags) + 1)]]
    return ", ".join(tags)


def ids(tokenizer: Any, texts: list[str]) -> Tensor:
    """Token ids [len(texts), 77]."""
    return tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
