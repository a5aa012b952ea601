"""The experiment of arXiv 2411.18993 as far as a machine without its data allows, and the other protections beside it.

Modules in the order of work: `settings` what is crossed; `analytic` AlexNet, ResNet18, ResNet50, DenseNet169 by their
shapes, with Gaussian weights, errors in closed form; `networks` trained classifiers (the demonstration's digits; with
FETAFIX_ASSETS CIFAR ResNets and ImageNet networks); `run` Top-1 under faults, storage by storage, by the engine of
`fetafix stress`, kept as JSON lines; `speed` injecting into 100 MB beside one read of them; `targets`, `table` all of
it as Markdown, what quantisation costs apart from what faults do; `plots` the figures.
"""
