// Random numbers: who fires, and which hidden units stay.

// Philox4x32-10 on W / 2 counters at once (see philox.h): a byte per word of these blocks, 1 where it is below `limit`.
static void draw_below(Stream stream, uint8_t* below, int64_t first_block, int64_t blocks, uint32_t sample,
                       uint32_t step, uint64_t seed, uint64_t limit) {
  constexpr int lanes = W / 2;
  const wide low = wide{} + 0xFFFFFFFFu;
  wide lane;
  for (int i = 0; i < lanes; ++i) lane[i] = i;
  for (int64_t b = 0; b < blocks; b += lanes) {
    const wide index = lane + static_cast<uint64_t>(first_block + b);
    wide c0 = index & low, c1 = wide{} + sample, c2 = wide{} + step;
    wide c3 = (((index >> 32) << 8) & low) | static_cast<uint64_t>(stream);
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
      const wide p0 = (c0 & low) * uint64_t{0xD2511F53}, p1 = (c2 & low) * uint64_t{0xCD9E8D57};
      c0 = (p1 >> 32) ^ c1 ^ (wide{} + k0);
      c2 = (p0 >> 32) ^ c3 ^ (wide{} + k1);
      c1 = p1 & low;
      c3 = p0 & low;
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    const wide bytes = ((wide)(c0 < limit) & 1) | ((wide)(c1 < limit) & (1 << 8)) | ((wide)(c2 < limit) & (1 << 16)) |
                       ((wide)(c3 < limit) & (1 << 24));
    const int64_t now = blocks - b < lanes ? blocks - b : lanes;
    for (int64_t i = 0; i < now; ++i) {
      const uint32_t four = static_cast<uint32_t>(bytes[i]);
      __builtin_memcpy(below + 4 * (b + i), &four, 4);
    }
  }
}

static void draw(uint8_t* fired, int64_t first_block, int64_t blocks, uint32_t sample, uint32_t step, uint64_t seed,
                 uint64_t limit) {
  draw_below(Stream::fire, fired, first_block, blocks, sample, step, seed, limit);
}

// s.kept of all hidden layers: a factor per unit, 0 where it is dropped. A cell draws whole blocks for each layer, and
// its cells' blocks follow one another as in ncafast/philox.py.
static void draw_kept(const Job& job, const Scratch& s, const Cell* cells, int count) {
  const Packed& p = *job.packed;
  const Dropout& d = job.dropout;
  int64_t blocks = 0;
  for (int layer = 0; layer < p.layers; ++layer) blocks += (p.hidden[layer].outputs + 3) / 4;
  for (int i = 0; i < count; ++i) {
    draw_below(Stream::dropout, s.drawn, cells[i].index * blocks, blocks, d.sample, d.step, d.seed, d.limit);
    const uint8_t* stays = s.drawn;
    for (int layer = 0; layer < p.layers; ++layer) {
      const int64_t units = p.hidden[layer].outputs;
      float* kept = s.kept[layer] + i * row_stride(units, W);
      for (int64_t n = 0; n < units; ++n) kept[n] = static_cast<float>(stays[n]) * d.scale;
      stays += (units + 3) / 4 * 4;
    }
  }
}

// values [count, Hs] of a hidden layer, or their gradients, with what was dropped.
NCAFAST_INLINE void drop(const Job& job, const Scratch& s, int layer, int count, float* values) {
  if (!job.dropout.drops()) return;
  const int64_t size = count * row_stride(job.packed->hidden[layer].outputs, W);
  for (int64_t i = 0; i < size; i += W) store(values + i, load(values + i) * load(s.kept[layer] + i));
}
