"""Weights in and out: the formats of other frameworks, read and written exactly.

names.NAMINGS            how torchvision, timm, transformers and others call the tensors
pickles.open_checkpoint  checkpoints of PyTorch, read without running anything
recognise.recognise      the network that tensors belong to, by their names and shapes
importing.import_file    a file of another framework as weights of resjax
exporting.export_file    the way back
stablehlo                a network as a compiled function for other programs, and its loader
"""
