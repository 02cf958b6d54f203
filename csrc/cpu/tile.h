// The tile kernels: a handful of cells through a whole step, forward and backward, without leaving the cache.

// The MLP on the perception in scratch; leaves every layer's value, and slopes where backward will ask for them.
static void run_hidden(const Job& job, const Scratch& s, int count, bool slopes) {
  const Packed& p = *job.packed;
  const float* input = s.perception;
  int64_t ld = perception_stride(p);
  for (int layer = 0; layer < p.layers; ++layer) {
    const Dense& d = p.hidden[layer];
    const int64_t width = round_up(d.outputs, W);
    float* z = s.value[layer];
    gemm<Start::bias>(count, width, d.inputs, input, ld, 1, d.forward, width, d.bias, z, width);
    if (slopes) differentiate(p.activation, count * width, z, s.slope[layer]);
    activate(p.activation, p.slope, count * width, z);
    input = z;
    ld = width;
  }
}

static void forward_tile(const Job& job, const Scratch& s, const Cell* cells, int count) {
  const Packed& p = *job.packed;
  perceive(job, s, cells, count, false);
  run_hidden(job, s, count, false);
  const Dense& d = p.update;
  const int64_t width = round_up(d.outputs, W), ld = round_up(d.inputs, W);
  gemm<Start::bias>(count, width, d.inputs, s.value[p.layers - 1], ld, 1, d.forward, width, d.bias, s.update, width);
  const vec scale = all(job.scale);
  for (int i = 0; i < count; ++i) {
    float* to = job.out + static_cast<int64_t>(cells[i].padded) * p.channels;
    const float* update = s.update + i * width;
    for (int c = 0; c < p.channels; c += W) {
      const int valid = p.channels - c < W ? p.channels - c : W;
      const vec moved = load(to + c) + keep(scale * load(update + c), job.moved + c);
      if (valid == W)
        store(to + c, moved);
      else
        store_first(to + c, moved, valid);
    }
  }
}

static void forward(const Job& job, const Scratch& s, const Cell* cells, int32_t count) {
  for (int32_t i = 0; i < count; i += tile_cells)
    forward_tile(job, s, cells + i, count - i < tile_cells ? count - i : tile_cells);
}

static void backward_tile(const Job& job, const Scratch& s, const Sums& sums, const Cell* cells, int count) {
  const Packed& p = *job.packed;
  const bool slopes = !slope_from_value(p.activation);
  perceive(job, s, cells, count, p.dense && !slope_from_value(p.dense_activation));
  run_hidden(job, s, count, slopes);

  // dL/dd: the gradient of the next state, where an update counts.
  const int64_t Cp = round_up(p.channels, W);
  const vec scale = all(job.scale);
  for (int i = 0; i < count; ++i) {
    const float* from = job.grad + static_cast<int64_t>(cells[i].padded) * p.channels;
    for (int c = 0; c < p.channels; c += W) store(s.update + i * Cp + c, scale * keep(load(from + c), job.touched + c));
  }
  const int last = p.layers - 1;
  const int64_t top = round_up(p.update.inputs, W);
  add_columns(count, Cp, s.update, Cp, sums.update_bias);
  gemm<Start::add>(p.channels, top, count, s.update, 1, Cp, s.value[last], top, nullptr, sums.update, top);
  float* delta = s.delta[0];
  gemm<Start::zero>(count, top, p.channels, s.update, Cp, 1, p.update.backward, top, nullptr, delta, top);

  for (int layer = last; layer >= 0; --layer) {
    const Dense& d = p.hidden[layer];
    const int64_t width = round_up(d.outputs, W);
    through_activation(p.activation, p.slope, count * width, s.value[layer], s.slope[layer], delta);
    add_columns(count, width, delta, width, sums.hidden_bias[layer]);
    const float* input = layer ? s.value[layer - 1] : s.perception;
    const int64_t ld = layer ? round_up(d.inputs, W) : perception_stride(p);
    gemm<Start::add>(d.inputs, width, count, input, 1, ld, delta, width, nullptr, sums.hidden[layer], width);
    const int64_t inputs = round_up(d.inputs, W);
    float* next = layer ? s.delta[delta == s.delta[0]] : s.grad_perception;
    const int64_t ldn = layer ? inputs : perception_stride(p);
    gemm<Start::zero>(count, inputs, d.outputs, delta, width, 1, d.backward, inputs, nullptr, next, ldn);
    delta = next;
  }
  spread_back(job, s, sums, cells, count, s.grad_perception, perception_stride(p));
}

static void backward(const Job& job, const Scratch& s, const Sums& sums, const Cell* cells, int32_t count) {
  for (int32_t i = 0; i < count; i += tile_cells)
    backward_tile(job, s, sums, cells + i, count - i < tile_cells ? count - i : tile_cells);
}

// Blocks of W rows of the second moment, from the diagonal block to the right: the rest follows by symmetry.
static void moments(const Job& job, const Scratch& s, const float* shift, float* first, float* second,
                    const Cell* cells, int32_t count) {
  const Packed& p = *job.packed;
  const int64_t ldy = perception_stride(p), Pp = round_up(p.perception, W);
  constexpr int block = W < 24 ? 24 : W;
  for (int32_t i = 0; i < count; i += tile_cells) {
    const int now = count - i < tile_cells ? count - i : tile_cells;
    perceive(job, s, cells + i, now, false);
    for (int n = 0; n < now; ++n)
      for (int64_t c = 0; c < Pp; c += W)
        store(s.perception + n * ldy + c, load(s.perception + n * ldy + c) - load(shift + c));
    for (int n = 0; n < now; ++n)  // columns past P hold rubbish that must not become NaN times zero later
      for (int64_t c = p.perception; c < Pp; ++c) s.perception[n * ldy + c] = 0.0f;
    add_columns(now, Pp, s.perception, ldy, first);
    for (int64_t r = 0; r < p.perception; r += block) {
      const int64_t from = r / W * W;
      const int64_t rows = p.perception - r < block ? p.perception - r : block;
      gemm<Start::add>(rows, Pp - from, now, s.perception + r, 1, ldy, s.perception + from, ldy, nullptr,
                       second + r * Pp + from, Pp);
    }
  }
}

static void affine(const Job& job, const Scratch& s, const Sums& sums, const float* matrix, const float* offset,
                   const Cell* cells, int32_t count) {
  const Packed& p = *job.packed;
  const int64_t ldy = perception_stride(p), Pp = round_up(p.perception, W);
  for (int32_t i = 0; i < count; i += tile_cells) {
    const int now = count - i < tile_cells ? count - i : tile_cells;
    perceive(job, s, cells + i, now, p.dense && !slope_from_value(p.dense_activation));
    gemm<Start::bias>(now, Pp, p.perception, s.perception, ldy, 1, matrix, Pp, offset, s.grad_perception, ldy);
    spread_back(job, s, sums, cells + i, now, s.grad_perception, ldy);
  }
}

static void matmul(int64_t M, int64_t N, int64_t K, const float* a, int64_t am, int64_t ak, const float* b, int64_t ldb,
                   float* d, int64_t ldd) {
  gemm<Start::zero>(M, N, K, a, am, ak, b, ldb, nullptr, d, ldd);
}

// Philox4x32-10 on W / 2 counters at once (see philox.h); a block is four cells.
static void draw(uint8_t* fired, int64_t first_block, int64_t blocks, uint32_t sample, uint32_t step, uint64_t seed,
                 uint64_t limit) {
  constexpr int lanes = W / 2;
  const wide low = wide{} + 0xFFFFFFFFu;
  wide lane;
  for (int i = 0; i < lanes; ++i) lane[i] = i;
  for (int64_t b = 0; b < blocks; b += lanes) {
    const wide index = lane + static_cast<uint64_t>(first_block + b);
    wide c0 = index & low, c1 = wide{} + sample, c2 = wide{} + step;
    wide c3 = ((index >> 32) << 8) & low;  // the stream of fire masks is 0
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
      __builtin_memcpy(fired + 4 * (b + i), &four, 4);
    }
  }
}

static const Kernels kernels = {NCAFAST_NAME, W, draw, forward, backward, moments, affine, matmul};
