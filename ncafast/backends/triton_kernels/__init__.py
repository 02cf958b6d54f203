"""Triton kernels of one step, forward and backward. States are channels last, [B * N, C], N cells per sample."""
