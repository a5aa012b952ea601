"""Make the TensorFlow models of one module of this folder: python -m tests.tfzoo MODULE FOLDER.

TensorFlow and PyTorch do not load in one process, and pytest's processes load PyTorch: so whatever needs TensorFlow to
be made is made here, in a process of its own.
"""

import importlib
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

if __name__ == "__main__":
    module, folder = sys.argv[1], Path(sys.argv[2])
    importlib.import_module(f"tests.tfzoo.{module}").make(folder)
