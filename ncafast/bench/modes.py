"""What is measured and at which sizes, by name. Standard library only, as the options are made of these."""

FORWARD, TRAIN, INFERENCE, MEMORY = "forward", "train", "inference", "memory"
SIZES = ("quick", "full", "gpu")
