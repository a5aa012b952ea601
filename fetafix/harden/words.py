"""What is said of schemes and formats: refusals, threat models, loaders."""

from __future__ import annotations

from pathlib import Path

from fetafix.storage import index, sidecar

_INSTEAD = "--scheme rs protects any file as it is"
AT_REST = ("at rest: faults in the file, on disk, in flash or on the way, do less harm; that is what the protection is "
           "made for")
FOLDED = ("in RAM: not protected; ONNX Runtime folds the protection away when it loads the model and keeps plain "
          "weights, at no cost per inference. InferenceSession(…, disabled_optimizers=['ConstantFolding']) keeps it, "
          "and reads the weights anew at every inference")
SAVED = "an optimised model that is saved (optimized_model_filepath, onnxsim) holds plain weights: harden it again"
LOADED = "in RAM: not protected; the loader makes plain weights"
CODED = "at rest: every single flip of a weight's word is corrected, every double one found (the weight becomes 0)"
RESTORED = "at rest: the whole file, names and structure too, comes back bit by bit, or is known not to"
UNREAD = "only once it is restored: a runtime that loads the file as it is sees the flips"
TFLITE = ("in RAM: int8 codes stay as they are until DEQUANTIZE has read them, once; scales are stored once, as TFLite "
          "has it")
GRAPH = "the rest of the file (structure, names, biases) is not protected; --scheme rs protects all of it"
BETTER = ("where you control the loader, a code or a hash with a clean copy restores every bit and beats scaling: "
          "--scheme rs")


def refusal(path: Path, format: str, scheme: str) -> str:
    """Why a format cannot take a scheme, and what to do."""
    if format in ("keras", "keras-h5", "saved-model", "graphdef", "torchscript", "torch-export", "torch-module"):
        what = {"torchscript": "a state dict of it (torch.save(module.state_dict(), …))",
                "torch-export": "a state dict of it (torch.save(program.state_dict, …))",
                "torch-module": "a state dict of it (torch.save(module.state_dict(), …))"}.get(
                    format, "the model as ONNX (fetafix convert)")
        return (f"{path}: a {format} file has no place for what reads weights stored by {scheme}. Harden {what}, or "
                f"take secded, a code within each float32 word; {_INSTEAD}")
    return f"{path}: {scheme} is not known for {format} files; {_INSTEAD}"


SECDED = '''"""Correct flips in FILE, in place, before it is loaded. Needs numpy alone."""
import json
import numpy as np

PATH = "FILE"
raw = np.fromfile(PATH + "SUFFIX", np.uint8).reshape(3, -1)
tensors = json.loads(bytes(raw[0] & raw[1] | raw[1] & raw[2] | raw[0] & raw[2]))["tensors"]
columns = [n for n in range(3, 32) if n & (n - 1)]  # the syndrome of each data bit
masks = [np.uint32(sum(1 << i for i, c in enumerate(columns) if c >> k & 1)) for k in range(5)]
bit_of = np.zeros(32, np.uint32)
bit_of[columns], bit_of[[1, 2, 4, 8, 16]] = np.arange(6, 32), np.arange(5)
parity = lambda words: (np.bitwise_count(words) & 1).astype(np.uint32)
for tensor in tensors:
    file = PATH.rpartition("/")[0] + "/" * ("/" in PATH) + tensor["file"] if "file" in tensor else PATH
    for offset, size in tensor["pieces"]:
        words = np.memmap(file, np.uint8, "r+", offset, (size,))
        word = words.copy().view(np.uint32)
        syndrome, odd = word & 31, parity(word) == 1
        for k, mask in enumerate(masks):
            syndrome = syndrome ^ parity(word >> 6 & mask) << np.uint32(k)
        word = np.where(odd & (syndrome > 0), word ^ np.uint32(1) << bit_of[syndrome], word)
        word = np.where(~odd & (syndrome > 0), np.uint32(0), word)  # two flips of a word: the weight becomes 0
        words[:] = (word & np.uint32(0xFFFFFFC0)).view(np.uint8)
        words.flush()
'''


def secded_loader(path: Path) -> str:
    """Code that corrects a file's words in place."""
    return SECDED.replace("SUFFIX", index.SUFFIX).replace("FILE", str(path))


def rs_loader(path: Path) -> str:
    """Code that restores a file from its check bytes."""
    from fetafix.harden.rs_loader import CODE

    return CODE.replace("SUFFIX", sidecar.SUFFIX).replace("FILE", str(path))
