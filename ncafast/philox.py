"""The random source: Philox4x32-10 in plain PyTorch, the same words on every device and backend.

A draw depends only on the seed and on its counter (cell, sample, step), never on how
many draws came before. So tiles, ranks and backends agree on every mask, and a backward pass can
draw a mask again instead of storing it. `csrc/philox.h` is the same function in C++.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
WORD = 0xFFFFFFFF
STREAM_FIRE = 0
STREAM_NOISE = 1
STREAM_DROPOUT = 2
MAX_ELEMENTS = 1 << 58  # the fourth counter word has 24 bits left for a cell index beyond 2^34


def philox4x32(
    counter: Tensor,  # [..., 4] int64, words in [0, 2^32)
    key: Tensor,  # [2] int64, words in [0, 2^32)
) -> Tensor:  # [..., 4] int64, words in [0, 2^32)
    """Return the Philox4x32-10 block of every counter under one key."""
    c0, c1, c2, c3 = counter.unbind(-1)
    even, odd = _ten_rounds(torch.stack([c0, c2]), torch.stack([c1, c3]), key)
    return torch.stack([even[0], odd[0], even[1], odd[1]], dim=-1)


def threshold(fire_rate: float) -> int:
    """Return floor(fire_rate * 2^32): a cell fires when its word is smaller.

    Raises ValueError when the rate is not a number in [0, 1].
    """
    if not 0.0 <= fire_rate <= 1.0:
        raise ValueError(f"fire_rate is {fire_rate}; it must be a probability, from 0 to 1")
    return math.floor(fire_rate * 2.0**32)


def fire_mask(
    batch: int,
    spatial: tuple[int, ...],
    fire_rate: float,
    seed: Tensor,  # [1] int64, the 64-bit seed in two's complement
    *,
    step: int = 0,
    first_sample: int = 0,
    device: torch.device | str | None = None,
) -> Tensor:  # [B, 1, *S] bool
    """Draw which cells update in one step; True with probability `fire_rate`.

    `step` is the absolute step, `first_sample` the index of the first sample in the whole batch.
    A rate of 1 draws nothing. `device` defaults to the seed's; nothing is read back to the host.
    Raises ValueError when the rate is not in [0, 1] or a counter word would overflow.
    """
    limit = threshold(fire_rate)
    check_counter(batch, math.prod(spatial), step, first_sample)
    device = seed.device if device is None else torch.device(device)
    if limit > WORD:
        return torch.ones((batch, 1, *spatial), dtype=torch.bool, device=device)
    cells = math.prod(spatial)
    even, odd = _blocks(batch, cells, seed, step, first_sample, STREAM_FIRE, device)
    return _interleave(even < limit, odd < limit, cells).reshape(batch, 1, *spatial)


def fire_mask_at(
    places: Tensor,  # [N] int64
    batch: int,
    limit: int,
    seed: Tensor,  # [1] int64
    step: int,
    first_sample: int,
) -> Tensor:  # [B, N] bool
    """What `fire_mask` draws for the cells at these row-major places of a grid; `limit` is the rate's `threshold`."""
    even, odd = _blocks_at(places >> 2, batch, seed, step, first_sample, STREAM_FIRE)
    words = torch.stack([even, odd], dim=1)  # [2, 2, B, N]: of place n, word n % 4 counts
    word = (places & 3).expand(1, batch, -1)
    return words.flatten(0, 1).gather(0, word)[0] < limit


def normal(
    batch: int,
    channels: int,
    spatial: tuple[int, ...],
    seed: Tensor,  # [1] int64, the 64-bit seed in two's complement
    *,
    step: int = 0,
    first_sample: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:  # [B, C, *S]
    """Draw standard normal numbers, one per channel and cell, independent of `fire_mask`.

    Box-Muller in float64 on pairs of words, then cast to `dtype`, so that the result is the same
    everywhere up to the rounding of log, sin and cos. Absolute values stay below 6.8.
    Raises ValueError when a counter word would overflow.
    """
    elements = channels * math.prod(spatial)
    check_counter(batch, elements, step, first_sample)
    device = seed.device if device is None else torch.device(device)
    even, odd = _blocks(batch, elements, seed, step, first_sample, STREAM_NOISE, device)
    radius = ((even.double() + 0.5) * 2.0**-32).log().mul(-2.0).sqrt()
    angle = (odd.double() + 0.5) * (2.0 * math.pi * 2.0**-32)
    drawn = _interleave(radius * angle.cos(), radius * angle.sin(), elements)
    return drawn.to(dtype).reshape(batch, channels, *spatial)


def kept_units(
    batch: int,
    cells: int,
    hidden: tuple[int, ...],
    dropout: float,
    seed: Tensor,  # [1] int64, the 64-bit seed in two's complement
    *,
    step: int = 0,
    first_sample: int = 0,
    device: torch.device | str | None = None,
) -> list[Tensor]:  # each [B, H, N] bool
    """Draw which hidden units stay in one step; True with probability 1 - `dropout`, independent of `fire_mask`.

    Per layer of `hidden` units. A cell's numbers follow one another, layer by layer, each layer from a new block on.
    Raises ValueError when a counter word would overflow.
    """
    limit, rounded = threshold(1.0 - dropout), [(units + 3) // 4 * 4 for units in hidden]
    elements = cells * sum(rounded)
    check_counter(batch, elements, step, first_sample)
    device = seed.device if device is None else torch.device(device)
    even, odd = _blocks(batch, elements, seed, step, first_sample, STREAM_DROPOUT, device)
    stays = _interleave(even < limit, odd < limit, elements).view(batch, cells, sum(rounded))
    layers = zip(stays.split(rounded, 2), hidden, strict=True)
    return [layer[..., :units].transpose(1, 2) for layer, units in layers]


def check_counter(batch: int, elements: int, step: int, first_sample: int) -> None:
    """Raise ValueError unless samples and step fit a 32-bit counter word and the grid the rest."""
    if not 0 <= step <= WORD:
        raise ValueError(f"step is {step}; the absolute step must be in [0, 2^32)")
    if first_sample < 0 or first_sample + batch > WORD + 1:
        raise ValueError(
            f"samples {first_sample} to {first_sample + batch} were asked for; sample indices must be in [0, 2^32)"
        )
    if elements > MAX_ELEMENTS:
        raise ValueError(f"{elements} random numbers per sample; at most 2^58 can be told apart")


def _blocks(
    batch: int,
    elements: int,
    seed: Tensor,  # [1] int64
    step: int,
    first_sample: int,
    stream: int,
    device: torch.device,
) -> tuple[Tensor, Tensor]:  # words 0 and 2, words 1 and 3; both [2, B, ceil(elements / 4)] int64
    """Return the blocks that cover `elements` consecutive numbers of every sample."""
    return _blocks_at(torch.arange((elements + 3) // 4, device=device), batch, seed, step, first_sample, stream)


def _blocks_at(
    block: Tensor,  # [N] int64
    batch: int,
    seed: Tensor,  # [1] int64
    step: int,
    first_sample: int,
    stream: int,
) -> tuple[Tensor, Tensor]:  # as _blocks
    """Return these blocks of every sample."""
    device = block.device
    sample = torch.arange(first_sample, first_sample + batch, device=device)[:, None]  # [B, 1]
    shape = (batch, block.shape[0])
    fourth = ((block >> 32) << 8) | stream
    even = torch.stack([(block & WORD).expand(shape), torch.full_like(block, step).expand(shape)])
    odd = torch.stack([sample.expand(shape), fourth.expand(shape)])
    seed = seed.reshape(1).to(device)
    return _ten_rounds(even, odd, torch.cat([seed & WORD, (seed >> 32) & WORD]))


def _ten_rounds(
    even: Tensor,  # [2, ...] int64, counter words 0 and 2
    odd: Tensor,  # [2, ...] int64, counter words 1 and 3
    key: Tensor,  # [2] int64
) -> tuple[Tensor, Tensor]:  # as even and odd
    """Run the ten rounds on two words at a time.

    int64 multiplication wraps, which leaves the low 64 bits of the product: its low word becomes an
    odd word of the next round, its high word goes into the even word on the other side. Junk above
    bit 32 is harmless until an even word is multiplied, so only those are cut back in every round.
    """
    column = (2,) + (1,) * (even.dim() - 1)
    pair = torch.arange(2, device=even.device).reshape(column)  # no copy from the host
    multiplier = pair * (MULTIPLIERS[1] - MULTIPLIERS[0]) + MULTIPLIERS[0]
    key_step = pair * (KEY_STEPS[1] - KEY_STEPS[0]) + KEY_STEPS[0]
    key = key.reshape(column)
    for _ in range(ROUNDS):
        product = (even * multiplier).flip(0)
        even = ((product >> 32) ^ odd ^ key) & WORD
        odd = product
        key = key + key_step
    return even, odd & WORD


def _interleave(
    even: Tensor,  # [2, B, N], numbers 0 and 2 of every block
    odd: Tensor,  # [2, B, N], numbers 1 and 3
    elements: int,
) -> Tensor:  # [B, elements]
    """Lay blocks of four out in the order of their elements."""
    words = torch.stack([even, odd], dim=1)  # [2, 2, B, N]
    return words.permute(2, 3, 0, 1).flatten(1)[:, :elements]
