"""A loader for Reed-Solomon sidecars in numpy alone, as text: what `--explain` prints.

Written once more, and otherwise than `fetafix.storage.reed_solomon`, for it has to stand alone: one codeword at a time,
by Berlekamp and Massey, Chien and Forney, and only for codewords that are wrong.
"""

CODE = '''"""Restore FILE from FILE + "SUFFIX" into FILE + ".restored". Needs numpy alone."""
import hashlib
import struct
import numpy as np

PATH = "FILE"
exp, log, x = [0] * 512, [0] * 256, 1
for i in range(255):  # GF(256), x^8 + x^4 + x^3 + x^2 + 1
    exp[i] = exp[i + 255] = x
    log[x] = i
    x = x << 1 ^ (0x11D if x & 0x80 else 0)
mul = lambda a, b: exp[log[a] + log[b]] if a and b else 0
times = np.array([[mul(a, b) for b in range(256)] for a in range(256)], np.uint8)


def value(poly, at):  # lowest power first
    found = 0
    for c in reversed(poly):
        found = mul(found, at) ^ c
    return found


def correct(word, s):  # one codeword, highest power first, and its syndromes
    now, old, length, shift, last = [1], [1], 0, 1, 1
    for n in range(len(s)):
        off = s[n]
        for i in range(1, length + 1):
            off ^= mul(now[i] if i < len(now) else 0, s[n - i])
        if off:
            kept, factor = now, mul(off, exp[255 - log[last]])
            size = max(len(now), len(old) + shift)
            now = [(now[i] if i < len(now) else 0) ^ (mul(factor, old[i - shift]) if 0 <= i - shift < len(old) else 0)
                   for i in range(size)]
            if 2 * length <= n:
                length, old, last, shift = n + 1 - length, kept, off, 0
        shift += 1
    omega = [0] * len(s)
    for i, c in enumerate(now):
        for j in range(len(s) - i):
            omega[i + j] ^= mul(c, s[j])
    roots = [p for p in range(255) if value(now, exp[(255 - p) % 255]) == 0]
    if len(roots) == length <= len(s) // 2:  # more errors than that cannot be told
        for p in roots:
            at = exp[(255 - p) % 255]
            slope = value([c if i % 2 else 0 for i, c in enumerate(now)], at)
            word[254 - p] ^= mul(value(omega, at), exp[255 - log[slope]])


side = np.fromfile(PATH + "SUFFIX", np.uint8)
a, b, c = side[:192].reshape(3, 64)
magic, checks, segment, size, sha = struct.unpack("<8sIIQ32s8x", bytes(a & b | b & c | a & c))
data, done, at = np.fromfile(PATH, np.uint8), [], 192
for start in range(0, size, segment * (255 - checks)):
    block = data[start : min(size, start + segment * (255 - checks))]
    count = -(-len(block) // (255 - checks))
    words = np.zeros(((255 - checks), count), np.uint8)
    words.reshape(-1)[: len(block)] = block
    words = np.concatenate([words, side[at : at + checks * count].reshape(checks, count)])
    at += checks * count
    syndromes = np.zeros((checks, count), np.uint8)
    for row in words:
        syndromes = times[syndromes, np.array(exp[:checks])[:, None]] ^ row
    for j in np.flatnonzero(syndromes.any(0)):
        word = [int(v) for v in words[:, j]]
        correct(word, [int(v) for v in syndromes[:, j]])
        words[:, j] = word
    done.append(np.ascontiguousarray(words[: 255 - checks]).reshape(-1)[: len(block)])
restored = np.concatenate(done)
print("bit by bit as it was" if hashlib.sha256(restored).digest() == sha else "damaged beyond repair")
restored.tofile(PATH + ".restored")
'''
