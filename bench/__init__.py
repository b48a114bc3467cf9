"""Benchmarks: each compares with a real opponent, in the same run."""
