"""The tokenizer: whole words of the vocabulary, letters for the rest, constant phrases as one token each.

One token for the system sentence keeps a question at about ten text tokens, in training and in the study.
"""

import string

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tools.embedded import vocabulary as v

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<image>")
PHRASES = (
    v.SYSTEM, v.INSTRUCTION, v.LETTER_INSTRUCTION, v.REGION, v.YES_NO, v.OCR_LINE, "USER:", "ASSISTANT:",
    *v.COORDINATES,
)  # fmt: skip


def word_list() -> list[str]:
    """The vocabulary in token order: special tokens, words, single characters, characters inside a word."""
    characters = string.ascii_letters + string.digits + string.punctuation
    words = list(v.WHOLE_WORDS)
    single = [c for c in characters if c not in words]
    return list(dict.fromkeys([*SPECIAL, *words, *single, *(f"##{c}" for c in characters)]))


def build_tokenizer() -> PreTrainedTokenizerFast:
    words = word_list()
    core = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece(prefix="##")
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", words.index("<s>"))])
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    core.add_tokens([AddedToken(phrase, special=False, normalized=False) for phrase in PHRASES])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
        padding_side="left",
        model_max_length=2048,
    )
