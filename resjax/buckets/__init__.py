"""Buckets: stores of objects that several machines share, in place of a file system."""
