"""Recurrent classifiers of sequences."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from fetafix.bench.zoo.networks import Network, diversify, tensors
from fetafix.inputs import natural
from fetafix.ir import Array


class LstmClassifier(nn.Module):
    """Features (N, T, F) to (N, 10) scores: a bidirectional LSTM, one forward, and the last step's state."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.both = nn.LSTM(features, width, batch_first=True, bidirectional=True)
        self.forth = nn.LSTM(2 * width, width, batch_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, features: Tensor) -> Tensor:
        """Scores."""
        x, _ = self.both(features)
        x, _ = self.forth(x)
        scores: Tensor = self.head(x[:, -1])
        return scores


class GruClassifier(nn.Module):
    """Token ids (N, T) to (N, 10) scores: embeddings, a GRU, a bidirectional one, and the mean over the steps."""

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.forth = nn.GRU(width, width, batch_first=True)
        self.both = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.dense = nn.Linear(2 * width, width)
        self.head = nn.Linear(width, 10)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Scores."""
        x, _ = self.forth(self.words(input_ids))
        x, _ = self.both(x)
        scores: Tensor = self.head(torch.relu(self.dense(x.mean(1))))
        return scores


def lstm(small: bool, seed: int) -> Network:
    """40 steps of 24 features, width 128; small: 10 steps of 6, width 12."""
    steps, features, width = (10, 6, 12) if small else (40, 24, 128)
    rng = np.random.default_rng(seed)
    signals = np.stack([natural.field(rng, (steps, features)) for _ in range(64 if small else 100)])
    module = LstmClassifier(features, width)
    return _driven(module, module.head, {"features": signals})


def gru(small: bool, seed: int) -> Network:
    """48 tokens, width 128; small: 12 tokens, width 12."""
    words, steps, width = (100, 12, 12) if small else (5000, 48, 128)
    tokens = np.random.default_rng(seed).integers(0, words, (64 if small else 100, steps))
    module = GruClassifier(words, width)
    return _driven(module, module.head, {"input_ids": tokens})


def _driven(module: nn.Module, head: nn.Linear, samples: dict[str, Array]) -> Network:
    """Weights that drive the gates through their range; fresh ones leave them near the middle."""
    module.eval()
    for layer in module.modules():
        if isinstance(layer, nn.LSTM | nn.GRU):
            for weight in layer.parameters():
                weight.mul_(2.5)
    diversify(head, module(*tensors(samples)), 1)
    return Network(module=module, samples=samples)
