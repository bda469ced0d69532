"""Networks: shortcuts, blocks, normalisation, and what they cost."""
