"""Triton kernels of one step, forward and backward. States are channels last, [B * N, C], N cells per sample.

Constants that every kernel shares, in the order of the arguments:
    C, CP       channels, and their number rounded up to a power of two >= 16
    P, OWN, SEEN, E  perception columns: OWN of the state itself (C or 0), SEEN of the filters (F * C) or of the dense
                convolution, then E extra ones
    DENSE, DENSE_ACT  a full convolution instead of filters per channel, and its activation
    KZ, KY, KX  filter sizes, 1 on axes that are not there
    PADDING     name in ncafast.rule.PADDINGS
    HP          hidden width rounded up to a power of two >= 16; all layers are padded to the widest
    LAYERS, ACT, SLOPE  hidden layers, name in ncafast.rule.ACTIVATIONS, slope of leaky_relu
    BLOCK, KB, CHUNKS  cells per tile; perception columns per chunk, and chunks that cover P
    PRECISION   of products: ieee, tf32, tf32x3 or bf16; sums are float32
"""
