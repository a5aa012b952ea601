"""CIFAR ResNets, by a name that is quick to import for `--arch`."""

from fetafix.bench.cifar import ResNet, read, resnet20, resnet56

__all__ = ["ResNet", "read", "resnet20", "resnet56"]
