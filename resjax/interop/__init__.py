"""Weights in and out: the formats of other frameworks, read and written exactly.

importing.import_weights  a file of another framework as weights of resjax
files.open_file           the tensors of one network in a file
formats, choosing, heads  any file of weights, the network to take from it, and its head
pickles, rebuilding       checkpoints of PyTorch, read without running anything
names.NAMINGS             how torchvision, timm, transformers and others call the tensors
recognise, architectures  the network that tensors belong to, and whether a file names the same
metadata, sidecars        the classes and the preprocessing of images that come with weights
class_names               the classes in a file of one's own
exporting, folding        the way back
stablehlo                 a network as a compiled function for other programs, and its loader
predicting, scoring       what a network makes of image files, and of a data set
"""
