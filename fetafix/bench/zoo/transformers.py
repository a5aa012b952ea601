"""A vision transformer and an encoder of tokens in the manner of BERT."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from fetafix.bench.zoo.networks import Network, calibrate, diversify, images, tensors


class Attention(nn.Module):
    """Self-attention with several heads, its projections apart, as BERT has them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        for layer in (self.query, self.key):
            nn.init.normal_(layer.weight, 0.0, 2.0 / math.sqrt(width))  # attention that tells tokens apart

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(N, T, C) to the same shape. mask: (N, 1, 1, T), added to the scores."""
        n, t, c = x.shape
        q, k, v = (f(x).reshape(n, t, self.heads, c // self.heads).transpose(1, 2)
                   for f in (self.query, self.key, self.value))
        scores = q @ k.transpose(2, 3) / math.sqrt(c // self.heads)
        weights = torch.softmax(scores if mask is None else scores + mask, -1)
        mixed: Tensor = self.out((weights @ v).transpose(1, 2).reshape(n, t, c))
        return mixed


class Layer(nn.Module):
    """Attention and a feed-forward network, normalised before (ViT) or after (BERT) each."""

    def __init__(self, width: int, heads: int, before: bool, eps: float) -> None:
        super().__init__()
        self.before = before
        self.attention = Attention(width, heads)
        self.norm1, self.norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(N, T, C) to the same shape."""
        if self.before:
            x = x + self.attention(self.norm1(x), mask)
            x = x + self.mlp(self.norm2(x))
            return x
        x = self.norm1(x + self.attention(x, mask))
        x = self.norm2(x + self.mlp(x))
        return x


class VisionTransformer(nn.Module):
    """(N, 3, side, side) to (N, classes) scores, read from a class token."""

    def __init__(self, side: int, patch: int, width: int, heads: int, depth: int, classes: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.position = nn.Parameter(0.3 * torch.randn(1, (side // patch) ** 2 + 1, width))
        self.layers = nn.ModuleList(Layer(width, heads, True, 1e-6) for _ in range(depth))
        self.norm = nn.LayerNorm(width, 1e-6)
        self.head = nn.Linear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Scores."""
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        for layer in self.layers:
            x = layer(x, None)
        scores: Tensor = self.head(self.norm(x)[:, 0])
        return scores


class Encoder(nn.Module):
    """Token ids (N, T) and a padding mask (N, T), 1 where a token counts, to (N, classes) scores."""

    def __init__(self, words: int, length: int, width: int, heads: int, depth: int, classes: int) -> None:
        super().__init__()
        self.words, self.position = nn.Embedding(words, width), nn.Embedding(length, width)
        self.norm = nn.LayerNorm(width, 1e-12)
        self.layers = nn.ModuleList(Layer(width, heads, False, 1e-12) for _ in range(depth))
        self.pooler = nn.Linear(width, width)
        self.head = nn.Linear(width, classes)
        self.register_buffer("places", torch.arange(length)[None])

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Scores."""
        places: Tensor = self.places  # type: ignore[assignment]
        x = self.norm(self.words(input_ids) + self.position(places[:, :input_ids.shape[1]]))
        mask = (1.0 - attention_mask[:, None, None, :].to(x.dtype)) * -10000.0
        for layer in self.layers:
            x = layer(x, mask)
        scores: Tensor = self.head(torch.tanh(self.pooler(x[:, 0])))
        return scores


def vit(small: bool, seed: int) -> Network:
    """ViT-B/16's form: full at 224×224 with 12 layers of width 192 (ViT-Ti); small: 32×32, 3 layers of width 32."""
    size = (32, 8, 32, 4, 3, 10) if small else (224, 16, 192, 3, 12, 1000)
    module = VisionTransformer(*size)
    samples = {"image": images(64 if small else 100, size[0], seed)}
    batch = tensors(samples, 32)
    calibrate(module, batch)
    diversify(module.head, module(*batch), 1)
    return Network(module=module, samples=samples)


def bert(small: bool, seed: int) -> Network:
    """An encoder of 128 tokens, 6 layers of width 256; small: 12 tokens, 3 layers of width 32."""
    words, length, width, heads, depth = (200, 12, 32, 4, 3) if small else (5000, 128, 256, 8, 6)
    rng, count = np.random.default_rng(seed), 64 if small else 100
    lengths = rng.integers(length // 3, length + 1, count)
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    samples = {"input_ids": rng.integers(1, words, (count, length)) * mask, "attention_mask": mask}
    module = Encoder(words, length, width, heads, depth, 10)
    calibrate(module, tensors(samples, 2))
    diversify(module.head, module(*tensors(samples, 32)), 1)
    return Network(module=module, samples=samples)
