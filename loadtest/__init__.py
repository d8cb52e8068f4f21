"""Benchmarks and load tests of a running Bellhop: a black box, importing nothing of it."""
