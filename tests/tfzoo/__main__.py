"""Make the TensorFlow models of one module of this folder: python -m tests.tfzoo MODULE FOLDER.

TensorFlow takes seconds to load, and whoever does so first fixes its threads and devices: so what is made with it is
made here once for all test processes, in a process of its own.
"""

import importlib
import sys
from pathlib import Path

from fetafix.formats.tensorflow import env

if __name__ == "__main__":
    module, folder = sys.argv[1], Path(sys.argv[2])
    env.prepare()
    importlib.import_module(f"tests.tfzoo.{module}").make(folder)
