"""Networks: shortcuts, blocks, normalisation, and what they cost.

build.named_model       a network by name; `build_model` from a config
trace.initial_variables parameters and running statistics before training
features.features       outputs of stages, and the terms of every block's sum
grow.grow               a deeper network that is the same function
summary.describe        layers, parameters, multiply-adds
shortcuts.SHORTCUTS     the table to add a shortcut to
"""
