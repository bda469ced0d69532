"""Networks: shortcuts, blocks, normalisation, and their costs.

build.named_model       a network by name; `build_model` from a config
trace.initial_variables parameters and running statistics before training
features.features       outputs of stages, and the terms of every block's sum
grow.grow               a deeper network that computes the same function
summary.describe        layers, parameters, multiply-adds
shortcuts.SHORTCUTS     the table of shortcuts, to which you can add one
"""
