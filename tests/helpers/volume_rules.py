"""Rules that run on parts of a grid, one of each kind, with the cells of a grid."""

from ncafast import Alive, Rule

RULES = {
    "zeros": (Rule(channels=4, hidden=(8,)), (11, 14)),
    "reflect 5": (Rule(channels=3, kernel_size=(5,), padding="reflect", hidden=(8,)), (13, 12)),
    "circular": (Rule(channels=3, padding="circular", hidden=(8,)), (9, 12)),
    "replicate extra": (Rule(channels=3, padding="replicate", extra=2, hidden=(6, 5)), (9, 12)),
    "alive": (Rule(channels=5, alive=Alive(threshold=0.3), hidden=(8,), fire_rate=0.7), (12, 13)),
    "alive 5 pre": (Rule(channels=5, alive=Alive(threshold=0.9, pool=5, post=False), hidden=(8,)), (12, 13)),
    "alive update": (Rule(channels=5, alive=Alive(threshold=1.2, post=False, gates="update"), hidden=(8,)), (12, 13)),
    "alive wrap": (Rule(channels=5, padding="circular", alive=Alive(threshold=1.2, wrap=True), hidden=(8,)), (12, 13)),
    "1-D 7": (Rule(channels=2, ndim=1, kernel_size=(7,), padding="reflect", hidden=(8,)), (40,)),
    "3-D": (Rule(channels=3, ndim=3, kernel_size=(3, 1, 5), padding="zeros", hidden=(8,)), (7, 5, 12)),
    "dense": (Rule(channels=3, perception="dense", dense_channels=5, dense_activation="tanh", hidden=(8,)), (9, 12)),
    "batch": (Rule(channels=4, norm="batch", hidden=(8,), padding="reflect"), (11, 10)),
    "batch plain": (Rule(channels=4, norm="batch", norm_affine=False, hidden=(8,), extra=1), (11, 10)),
    "group": (Rule(channels=4, norm="group", norm_groups=2, hidden=(8,)), (11, 10)),
    "instance": (Rule(channels=4, norm="instance", hidden=(8,), padding="circular"), (11, 10)),
    "layer": (Rule(channels=4, norm="layer", hidden=(8,)), (11, 10)),
    "running": (Rule(channels=4, norm="running", hidden=(8,)), (11, 10)),
    "pooled mean": (Rule(channels=4, pooled="mean", hidden=(8,)), (11, 10)),
    "pooled max, batch": (Rule(channels=4, pooled="max", pooled_channels=(1, 3), norm="batch", hidden=(8,)), (11, 10)),
    "pooled max of many": (Rule(channels=4, pooled="max", clamp=(-0.3, 0.3), hidden=(8,)), (11, 10)),  # equal cells
    "clamp": (Rule(channels=4, clamp=(-0.5, 0.8), mutable=(1, 4), restore=(2, 3), hidden=(8,)), (11, 10)),
}  # fmt: skip
