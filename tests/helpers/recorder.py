"""What stands in for a CUDA graph where there is no GPU: repeats the call on the buffers that it was recorded with."""


def record(run):
    outputs = run()

    def replay():
        for old, new in zip(outputs, run(), strict=True):
            old.copy_(new)

    return replay, outputs
