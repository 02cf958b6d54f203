"""Time and memory of calls: what the benchmark, the demo and `accelerate` measure with."""
