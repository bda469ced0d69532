"""Buckets: stores of objects that several machines share like a file system."""
