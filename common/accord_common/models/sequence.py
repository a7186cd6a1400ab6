"""Networks that read words, by arguments.

Guarantees: where a text ends, its row is filled with the number 0, which has no part in what a
model gives, whatever its weights.
"""

import torch
from torch import Tensor, nn

from accord_common.models.arguments import Arguments, refuse_unknown, width
from accord_common.models.inputs import Words
from accord_common.text_schema import NOTHING


class EmbeddingMean(nn.Module):
    """The mean of the words' vectors, then a linear layer."""

    def __init__(self, words: Words, embedding: int, outputs: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words.numbers, embedding, padding_idx=NOTHING)
        self.head = nn.Linear(embedding, outputs)

    def forward(self, words: Tensor) -> Tensor:
        """Logits (B, outputs) of words (B, L)."""
        there = (words != NOTHING).unsqueeze(2)  # (B, L, 1)
        total = (self.words(words) * there).sum(1)  # (B, E)
        result: Tensor = self.head(total / there.sum(1).clamp(min=1))
        return result


class LastState(nn.Module):
    """A GRU's state after the last word, then a linear layer."""

    def __init__(self, words: Words, embedding: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words.numbers, embedding, padding_idx=NOTHING)
        self.gru = nn.GRU(embedding, hidden, batch_first=True)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, words: Tensor) -> Tensor:
        """Logits (B, outputs) of words (B, L)."""
        states, _ = self.gru(self.words(words))  # (B, L, H)
        count = (words != NOTHING).sum(1)  # (B,)
        rows = torch.arange(words.shape[0], device=words.device)
        last = states[rows, (count - 1).clamp(min=0)]  # (B, H)
        result: Tensor = self.head(last * (count > 0).unsqueeze(1))
        return result


def embedding_mean(arguments: Arguments, words: Words, outputs: int) -> nn.Module:
    """Arguments: `embedding`, numbers a word, 16 unless given."""
    refuse_unknown(arguments, "embedding")
    return EmbeddingMean(words, width(arguments, "embedding", 16), outputs)


def gru(arguments: Arguments, words: Words, outputs: int) -> nn.Module:
    """Arguments: `embedding`, numbers a word, 16 unless given; `hidden`, those of a state, 32."""
    refuse_unknown(arguments, "embedding", "hidden")
    hidden = width(arguments, "hidden", 32)
    return LastState(words, width(arguments, "embedding", 16), hidden, outputs)
