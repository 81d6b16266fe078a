"""Measurements, each beside a reference in the same run: absolute times on shared machines mean nothing."""
