// Perception of chosen cells, and its transpose: what each cell sees, and where the gradient of what it saw goes.

NCAFAST_INLINE int padded(int n) { return (n + W - 1) / W * W; }

// Whether every neighbour of the cell lies in the grid.
NCAFAST_INLINE bool is_inner(const Geometry& g, Cell cell) {
  const int32_t x = cell.index - cell.row * g.size[2];
  return g.inner[cell.row] && x >= g.radius[2] && x < g.size[2] - g.radius[2];
}

// Index of the cell's neighbours, tap by tap; -1 outside under zero padding.
static void neighbours(const Geometry& g, Cell cell, int32_t* index) {
  const int32_t x = cell.index - cell.row * g.size[2];
  const int32_t y = cell.row % g.size[1], z = cell.row / g.size[1];
  for (int dz = 0; dz < g.kernel[0]; ++dz)
    for (int dy = 0; dy < g.kernel[1]; ++dy) {
      const int32_t pz = g.place[0][z + dz], py = g.place[1][y + dy];
      for (int dx = 0; dx < g.kernel[2]; ++dx) {
        const int32_t px = g.place[2][x + dx];
        const bool outside = (pz | py | px) < 0;
        *index++ = outside ? -1 : (pz * g.size[1] + py) * g.size[2] + px;
      }
    }
}

constexpr int most_taps = 343;

static void look_up(const Geometry& g, Cell cell, const float* x, const float* zeros, const float** table) {
  int32_t index[most_taps];
  neighbours(g, cell, index);
  for (int t = 0; t < g.taps; ++t) table[t] = index[t] < 0 ? zeros : x + static_cast<int64_t>(index[t]) * g.channels;
}

// One vector of channels of N inner cells through F filters: sums [N][F].
template <int N, int F>
NCAFAST_INLINE void correlate(const Geometry& g, const float* const* base, const float* taps, int64_t filter_stride,
                              int64_t tap_stride, vec sum[N][F]) {
  for (int t = 0; t < g.taps; ++t, taps += tap_stride) {
    vec weight[F];
#pragma GCC unroll 4
    for (int f = 0; f < F; ++f) weight[f] = load(taps + f * filter_stride);
    const int64_t offset = g.offset[t];
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      const vec value = load(base[n] + offset);
#pragma GCC unroll 4
      for (int f = 0; f < F; ++f) sum[n][f] = weight[f] * value + sum[n][f];
    }
  }
}

template <int F>
NCAFAST_INLINE void correlate_edge(const Geometry& g, const float* const* table, int channel, const float* taps,
                                   int64_t filter_stride, int64_t tap_stride, vec sum[F]) {
  for (int t = 0; t < g.taps; ++t, taps += tap_stride) {
    const vec value = load(table[t] + channel);
#pragma GCC unroll 4
    for (int f = 0; f < F; ++f) sum[f] = load(taps + f * filter_stride) * value + sum[f];
  }
}

// Filters [first, first + F) of the channels [v * W, +W) of up to four inner cells, or of one cell at an edge.
template <int F>
static void filter_cells(const Job& job, const float* const* base, const float* const* table, int count, int first,
                         int channel, float* y, int64_t ldy) {
  const Packed& p = *job.packed;
  const Geometry& g = *job.geometry;
  const int64_t Cp = padded(p.channels), tap_stride = Cp * p.filters;
  const float* taps = p.taps + first * Cp + channel;
  const float* bias = p.tap_bias + first * Cp + channel;
  const int valid = p.channels - channel < W ? p.channels - channel : W;
  vec sum[4][F];
  for (int n = 0; n < count; ++n)
    for (int f = 0; f < F; ++f) sum[n][f] = load(bias + f * Cp);
  if (table) {
    correlate_edge<F>(g, table, channel, taps, Cp, tap_stride, sum[0]);
  } else if (count == 4) {
    const float* at[4] = {base[0] + channel, base[1] + channel, base[2] + channel, base[3] + channel};
    correlate<4, F>(g, at, taps, Cp, tap_stride, sum);
  } else {
    for (int n = 0; n < count; ++n) {
      const float* at[1] = {base[n] + channel};
      correlate<1, F>(g, at, taps, Cp, tap_stride, sum + n);
    }
  }
  for (int n = 0; n < count; ++n)
    for (int f = 0; f < F; ++f) {
      float* target = y + n * ldy + (first + f) * static_cast<int64_t>(p.channels) + channel;
      if (valid == W)
        store(target, sum[n][f]);
      else
        store_first(target, sum[n][f], valid);
    }
}

// All filters of up to four inner cells, or of one at an edge, into rows of y.
static void filter_group(const Job& job, const float* const* base, const float* const* table, int count, float* y,
                         int64_t ldy) {
  const Packed& p = *job.packed;
  for (int channel = 0; channel < p.channels; channel += W)
    for (int first = 0; first < p.filters;) {
      const int left = p.filters - first;
      if (left >= 3) {
        filter_cells<3>(job, base, table, count, first, channel, y, ldy);
        first += 3;
      } else if (left == 2) {
        filter_cells<2>(job, base, table, count, first, channel, y, ldy);
        first += 2;
      } else {
        filter_cells<1>(job, base, table, count, first, channel, y, ldy);
        first += 1;
      }
    }
}

NCAFAST_INLINE void copy(float* to, const float* from, int n) {
  int i = 0;
  for (; i + W <= n; i += W) store(to + i, load(from + i));
  if (i < n) __builtin_memcpy(to + i, from + i, 4 * (n - i));
}

static void see_depthwise(const Job& job, const Scratch& s, const Cell* cells, int count, float* y, int64_t ldy) {
  const Geometry& g = *job.geometry;
  for (int i = 0; i < count;) {
    const float* base[4];
    int together = 0;
    while (together < 4 && i + together < count && is_inner(g, cells[i + together])) {
      base[together] = job.x + static_cast<int64_t>(cells[i + together].index) * g.channels;
      ++together;
    }
    if (together) {
      filter_group(job, base, nullptr, together, y + i * ldy, ldy);
      i += together;
    } else {
      const float* table[most_taps];
      look_up(g, cells[i], job.x, s.zeros, table);
      filter_group(job, nullptr, table, 1, y + i * ldy, ldy);
      ++i;
    }
  }
}

// Dense perception: the neighbours side by side, then one product.
static void see_dense(const Job& job, const Scratch& s, const Cell* cells, int count, float* y, int64_t ldy,
                      bool slopes) {
  const Packed& p = *job.packed;
  const Geometry& g = *job.geometry;
  const int64_t width = round_up(p.conv.outputs, W), ldc = round_up(p.conv.inputs, W) + W;
  for (int i = 0; i < count; ++i) {
    const float* table[most_taps];
    look_up(g, cells[i], job.x, s.zeros, table);
    for (int t = 0; t < g.taps; ++t) copy(s.columns + i * ldc + t * p.channels, table[t], p.channels);
  }
  gemm<Start::bias>(count, width, p.conv.inputs, s.columns, ldc, 1, p.conv.forward, width, p.conv.bias, s.seen, width);
  if (slopes) differentiate(p.dense_activation, count * width, s.seen, s.seen_slope);
  activate(p.dense_activation, p.slope, count * width, s.seen);
  for (int i = 0; i < count; ++i) copy(y + i * ldy, s.seen + i * width, p.conv.outputs);
}

NCAFAST_INLINE int64_t extra_place(const Job& job, Cell cell) {
  const Geometry& g = *job.geometry;
  const int32_t x = cell.index - cell.row * g.size[2];
  const int32_t y = cell.row % g.size[1], z = cell.row / g.size[1];
  return z * job.extra_axis[0] + y * job.extra_axis[1] + x * job.extra_axis[2];
}

NCAFAST_INLINE int64_t perception_stride(const Packed& p) { return round_up(p.perception, 24) + W; }

// Rows of y: [state, filters or dense outputs, extra].
static void perceive(const Job& job, const Scratch& s, const Cell* cells, int count, bool slopes) {
  const Packed& p = *job.packed;
  const int64_t ldy = perception_stride(p);
  float* y = s.perception;
  const int own = p.identity ? p.channels : 0;
  if (p.identity)
    for (int i = 0; i < count; ++i)
      copy(y + i * ldy, job.x + static_cast<int64_t>(cells[i].index) * p.channels, p.channels);
  if (p.dense)
    see_dense(job, s, cells, count, y + own, ldy, slopes);
  else if (p.filters)
    see_depthwise(job, s, cells, count, y + own, ldy);
  if (p.extra) {
    float* last = y + p.perception - p.extra;
    for (int i = 0; i < count; ++i) {
      const float* from = job.extra + extra_place(job, cells[i]);
      for (int e = 0; e < p.extra; ++e) last[i * ldy + e] = from[e * job.extra_channel];
    }
  }
}

// Adds n floats of v to memory.
NCAFAST_INLINE void add_first(float* p, vec v, int n) {
  if (n == W)
    store(p, load(p) + v);
  else
    for (int i = 0; i < n; ++i) p[i] += v[i];
}

// Transposed filters of one cell, F at a time: neighbours' gradients and the filters' own.
template <int F>
NCAFAST_INLINE void spread(const Job& job, const Sums& sums, const float* const* from, float* const* to, int first,
                           int channel, const float* dy) {
  const Packed& p = *job.packed;
  const int64_t Cp = padded(p.channels), tap_stride = Cp * p.filters;
  const int valid = p.channels - channel < W ? p.channels - channel : W;
  const float* taps = p.taps + first * Cp + channel;
  float* sum = sums.taps + first * Cp + channel;
  float* bias = sums.tap_bias + first * Cp + channel;
  vec u[F];
#pragma GCC unroll 4
  for (int f = 0; f < F; ++f) {
    u[f] = load(dy + f * static_cast<int64_t>(p.channels));
    store(bias + f * Cp, load(bias + f * Cp) + u[f]);
  }
  for (int t = 0; t < job.geometry->taps; ++t, taps += tap_stride, sum += tap_stride) {
    const vec value = load(from[t] + channel);
    vec back = vec{};
#pragma GCC unroll 4
    for (int f = 0; f < F; ++f) {
      back = load(taps + f * Cp) * u[f] + back;
      store(sum + f * Cp, value * u[f] + load(sum + f * Cp));
    }
    add_first(to[t] + channel, back, valid);
  }
}

static void spread_depthwise(const Job& job, const Scratch& s, const Sums& sums, Cell cell, const float* dy) {
  const Packed& p = *job.packed;
  const Geometry& g = *job.geometry;
  const float* from[most_taps];
  float* to[most_taps];
  if (is_inner(g, cell)) {
    const int64_t place = static_cast<int64_t>(cell.index) * g.channels;
    for (int t = 0; t < g.taps; ++t) {
      from[t] = job.x + place + g.offset[t];
      to[t] = job.grad_x + place + g.offset[t];
    }
  } else {
    int32_t index[most_taps];
    neighbours(g, cell, index);
    for (int t = 0; t < g.taps; ++t) {
      const int64_t place = static_cast<int64_t>(index[t]) * g.channels;
      from[t] = index[t] < 0 ? s.zeros : job.x + place;
      to[t] = index[t] < 0 ? s.sink : job.grad_x + place;
    }
  }
  for (int channel = 0; channel < p.channels; channel += W)
    for (int first = 0; first < p.filters;) {
      const float* at = dy + first * static_cast<int64_t>(p.channels) + channel;
      if (p.filters - first >= 2) {
        spread<2>(job, sums, from, to, first, channel, at);
        first += 2;
      } else {
        spread<1>(job, sums, from, to, first, channel, at);
        first += 1;
      }
    }
}

// Back through the dense convolution: dy [count, outputs] at columns `own` of the perception's gradient.
static void spread_dense(const Job& job, const Scratch& s, const Sums& sums, const Cell* cells, int count,
                         const float* dy, int64_t ldy) {
  const Packed& p = *job.packed;
  const Geometry& g = *job.geometry;
  const int64_t width = round_up(p.conv.outputs, W), ldc = round_up(p.conv.inputs, W) + W;
  float* delta = s.delta[0];
  for (int i = 0; i < count; ++i) {
    for (int64_t n = 0; n < width; n += W) store(delta + i * width + n, vec{});
    copy(delta + i * width, dy + i * ldy, p.conv.outputs);
  }
  through_activation(p.dense_activation, p.slope, count * width, s.seen, s.seen_slope, delta);
  add_columns(count, width, delta, width, sums.conv_bias);
  gemm<Start::add>(p.conv.inputs, width, count, s.columns, 1, ldc, delta, width, nullptr, sums.conv, width);
  const int64_t inputs = round_up(p.conv.inputs, W);
  gemm<Start::zero>(count, inputs, p.conv.outputs, delta, width, 1, p.conv.backward, inputs, nullptr, s.columns, ldc);
  for (int i = 0; i < count; ++i) {
    int32_t index[most_taps];
    neighbours(g, cells[i], index);
    for (int t = 0; t < g.taps; ++t) {
      if (index[t] < 0) continue;
      float* to = job.grad_x + static_cast<int64_t>(index[t]) * g.channels;
      const float* column = s.columns + i * ldc + t * p.channels;
      for (int c = 0; c < p.channels; c += W)
        add_first(to + c, load(column + c), p.channels - c < W ? p.channels - c : W);
    }
  }
}

// dL/dy of some cells goes to their neighbours, their own state, the filters and extra.
static void spread_back(const Job& job, const Scratch& s, const Sums& sums, const Cell* cells, int count,
                        const float* dy, int64_t ldy) {
  const Packed& p = *job.packed;
  const int own = p.identity ? p.channels : 0;
  for (int i = 0; i < count; ++i) {
    if (p.identity) {
      float* to = job.grad_x + static_cast<int64_t>(cells[i].index) * p.channels;
      for (int c = 0; c < p.channels; c += W)
        add_first(to + c, load(dy + i * ldy + c), p.channels - c < W ? p.channels - c : W);
    }
    if (p.filters && !p.dense) spread_depthwise(job, s, sums, cells[i], dy + i * ldy + own);
    if (job.grad_extra)
      for (int e = 0; e < p.extra; ++e)
        job.grad_extra[e * job.geometry->cells + cells[i].index] += dy[i * ldy + p.perception - p.extra + e];
  }
  if (p.dense) spread_dense(job, s, sums, cells, count, dy + own, ldy);
}
