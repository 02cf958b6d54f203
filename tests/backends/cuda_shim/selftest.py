"""What selftest.cu has to run right: under the shim, and on a GPU."""

RIGHT = (
    "arena",
    "async copy",
    "atomics",
    "barrier",
    "cluster",
    "cluster turns",
    "dependent launch",
    "grid sync",
    "load matrix",
    "mma bf16",
    "mma tf32",
    "named barrier",
    "rounding",
    "unwritten shared",
    "warp",
    "words",
)
ON_GPU = tuple(name for name in RIGHT if name != "unwritten shared")  # where nobody fills it with NaN
