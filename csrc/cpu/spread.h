// The transpose of the perception: where the gradient of what a cell saw goes.

NCAFAST_INLINE float* grad_of(const Job& job, Cell cell) {
  return job.grad_x + static_cast<int64_t>(cell.padded) * job.geometry->channels;
}

// Cells of one run or nearly so, which are spread together: between them lie others, whose gradient is zero.
struct Stretch {
  const Cell* cells;
  int count;
  const float* dy;  // [count, ldy] of the filters
  int64_t ldy;
  int span() const { return cells[count - 1].padded - cells[0].padded + 1; }
};

constexpr int most_span = 64, line_floats = 16;  // of a stretch: cells, and channels at a time, which fill a cache line
constexpr int most_places = most_span + 2 * 6 + 8;  // of the widest filter, and a whole block past the last one

// to [span + K - 1, C] += the transpose of F filters' row on u [F, most_places, line_floats], which starts with K - 1
// zeros. Sums stay in registers where cell by cell each addition would wait for the one before to reach memory.
template <int F, int K, bool WHOLE>
NCAFAST_APART void spread_row(float* to, int64_t C, int valid, int span, const float* u, const float* tap,
                              int64_t tap_stride, int64_t filter_stride) {
  constexpr int N = 8;
  const int places = span + K - 1;
  for (int j = 0; j < places; j += N, to += N * C, u += N * line_floats) {
    vec sum[N];
    const bool all_of_them = j + N <= places;
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n)
      sum[n] = !all_of_them ? vec{} : WHOLE ? load(to + n * C) : load_first(to + n * C, valid);
#pragma GCC unroll 2
    for (int f = 0; f < F; ++f)
      slide<N, K>(u + f * most_places * line_floats, line_floats, tap + f * filter_stride, -tap_stride, sum);
    if (all_of_them) {
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) WHOLE ? store(to + n * C, sum[n]) : store_first(to + n * C, sum[n], valid);
    } else {  // cells past them may belong to another thread
      vec last[N];
      __builtin_memcpy(last, sum, sizeof last);
      for (int n = 0; n < places - j; ++n) add_first(to + n * C, last[n], valid);
    }
  }
}

// sums of a filter's row of taps += what the cells see in it, times their gradient u. Cells are taken in turn by some
// sets of sums, as many as hide the latency of the FMA.
template <int K>
NCAFAST_APART void spread_taps(const float* from, int64_t C, const Stretch& stretch, const float* u, float* sums,
                               int64_t tap_stride) {
  constexpr int sets = K == 3 ? 3 : K == 5 ? 2 : 1;
  vec sum[sets][K] = {};
  const auto add = [&](int i, int set) __attribute__((always_inline)) {
    const int64_t place = stretch.cells[i].padded - stretch.cells[0].padded;
    const vec gradient = load(u + (K - 1 + place) * line_floats);
#pragma GCC unroll 8
    for (int d = 0; d < K; ++d) sum[set][d] = load(from + (place + d) * C) * gradient + sum[set][d];
  };
  int i = 0;
  for (; i + sets <= stretch.count; i += sets)
#pragma GCC unroll 3
    for (int set = 0; set < sets; ++set) add(i + set, set);
  for (; i < stretch.count; ++i) add(i, 0);
#pragma GCC unroll 8
  for (int d = 0; d < K; ++d) {
    vec total = sum[0][d];
    for (int set = 1; set < sets; ++set) total += sum[set][d];
    store(sums + d * tap_stride, load(sums + d * tap_stride) + total);
  }
}

// The gradients of filters [first, first + F) and of some channels as u of spread_row, and the biases' sums.
template <int F, int K>
static void gather(const Job& job, const Sums& sums, const Stretch& stretch, int first, int channel, int width,
                   float* u) {
  const Packed& p = *job.packed;
  const int64_t Cp = round_up(p.channels, W);
  const int places = stretch.span() + 2 * (K - 1) + 8;
  for (int f = 0; f < F; ++f, u += most_places * line_floats) {
    __builtin_memset(u, 0, sizeof(float) * places * line_floats);
    for (int c = channel; c < channel + width; c += W) {
      const int valid = valid_of(p.channels, c);
      const float* dy = stretch.dy + (first + f) * static_cast<int64_t>(p.channels) + c;
      float *bias = sums.tap_bias + (first + f) * Cp + c, *to = u + (K - 1) * line_floats + c - channel;
      vec total = load(bias);
      for (int i = 0; i < stretch.count; ++i) {
        const vec v = read_first(dy + i * stretch.ldy, valid);
        store(to + (stretch.cells[i].padded - stretch.cells[0].padded) * line_floats, v);
        total += v;
      }
      store(bias, total);
    }
  }
}

// Row by row of the filters: what a row reaches stays in the nearest cache, for all of the stretch and for each channel
// of a cache line. (AVX2, EPYC 25-1, one thread, 2026-11-29: training with 343 taps in 1095 instead of 1340 ns per cell
// and step, where each block of four cells went through all taps.)
template <int F, int K>
static void spread_stretch(const Job& job, const Sums& sums, const Stretch& stretch, int first) {
  const Packed& p = *job.packed;
  const Geometry& g = *job.geometry;
  const int64_t C = p.channels, Cp = round_up(C, W), tap_stride = Cp * p.filters;
  const int span = stretch.span();
  alignas(64) float u[F * most_places * line_floats];
  for (int channel = 0; channel < C; channel += line_floats) {
    const int width = static_cast<int>(Cp - channel < line_floats ? Cp - channel : line_floats);
    gather<F, K>(job, sums, stretch, first, channel, width, u);
    for (int t = 0; t < g.taps; t += K) {
      const int64_t place = stretch.cells[0].padded * C + g.offset[t];
      for (int c = channel; c < channel + width; c += W) {
        const int64_t tap = t * tap_stride + first * Cp + c;
        const float *own = u + c - channel, *last = p.taps + tap + (K - 1) * tap_stride;
        const int valid = valid_of(p.channels, c);
        if (valid == W)
          spread_row<F, K, true>(job.grad_x + place + c, C, W, span, own, last, tap_stride, Cp);
        else
          spread_row<F, K, false>(job.grad_x + place + c, C, valid, span, own, last, tap_stride, Cp);
        for (int f = 0; job.wants_taps && f < F; ++f)
          spread_taps<K>(job.x + place + c, C, stretch, own + f * most_places * line_floats, sums.taps + tap + f * Cp,
                         tap_stride);
      }
    }
  }
}

// Filter `first` of lone cells: their neighbours' gradients, and the filter's own.
static void spread_alone(const Job& job, const Sums& sums, const Stretch& cells, int first) {
  const Packed& p = *job.packed;
  const Geometry& g = *job.geometry;
  const int64_t C = p.channels, Cp = round_up(C, W), tap_stride = Cp * p.filters;
  for (int i = 0; i < cells.count; ++i)
    for (int c = 0; c < C; c += W) {
      const int valid = valid_of(p.channels, c);
      const int64_t place = cells.cells[i].padded * C + c;
      const float* taps = p.taps + first * Cp + c;
      float *sum = sums.taps + first * Cp + c, *bias = sums.tap_bias + first * Cp + c;
      const vec u = load(cells.dy + i * cells.ldy + first * C + c);
      store(bias, load(bias) + u);
      for (int t = 0; t < g.taps; ++t, taps += tap_stride, sum += tap_stride) {
        add_first(job.grad_x + place + g.offset[t], load(taps) * u, valid);
        if (job.wants_taps) store(sum, load(job.x + place + g.offset[t]) * u + load(sum));
      }
    }
}

// How many of the cells lie close enough to each other to be spread together. A gap costs as much as a cell for each of
// its places, so that one of a whole block is bridged: reckoned, not measured.
static int stretch_of(const Cell* cells, int count) {
  constexpr int most_gap = 8;
  int end = 1;
  while (end < count && cells[end].padded - cells[end - 1].padded <= most_gap &&
         cells[end].padded - cells[0].padded < most_span)
    ++end;
  return end;
}

template <int K>
static void spread_depthwise(const Job& job, const Sums& sums, const Cell* cells, int count, const float* dy,
                             int64_t ldy) {
  const int filters = job.packed->filters;
  for (int i = 0; i < count;) {
    const Stretch stretch{cells + i, stretch_of(cells + i, count - i), dy + i * ldy, ldy};
    const bool sparse = stretch.span() > 4 * stretch.count || stretch.count == 1;
    int first = 0;
    for (; !sparse && first + 2 <= filters; first += 2) spread_stretch<2, K>(job, sums, stretch, first);
    for (; first < filters; ++first)
      sparse ? spread_alone(job, sums, stretch, first) : spread_stretch<1, K>(job, sums, stretch, first);
    i += stretch.count;
  }
}

static void spread_depthwise(const Job& job, const Sums& sums, const Cell* cells, int count, const float* dy,
                             int64_t ldy) {
  with_width(*job.geometry,
             [&](auto width) { spread_depthwise<decltype(width)::value>(job, sums, cells, count, dy, ldy); });
}

// Back through the dense convolution: dy [count, outputs].
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
  gemm<Start::zero>(count, inputs, p.conv.outputs, delta, width, 1, p.conv.backward.floats, row_stride(inputs, W),
                    nullptr, s.columns, ldc);
  for (int i = 0; i < count; ++i)
    for (int t = 0; t < g.taps; ++t) {
      float* to = grad_of(job, cells[i]) + g.offset[t];
      const float* column = s.columns + i * ldc + t * p.channels;
      for (int c = 0; c < p.channels; c += W) add_first(to + c, load(column + c), valid_of(p.channels, c));
    }
}

// dL/dy of some cells goes to their neighbours, their own state, the filters, extra and pooled.
static void spread_back(const Job& job, const Scratch& s, const Sums& sums, const Cell* cells, int count,
                        const float* dy, int64_t ldy) {
  const Packed& p = *job.packed;
  const int own = p.identity ? p.channels : 0;
  for (int i = 0; p.identity && i < count; ++i) {
    float* to = grad_of(job, cells[i]);
    for (int c = 0; c < p.channels; c += W) add_first(to + c, load(dy + i * ldy + c), valid_of(p.channels, c));
  }
  if (p.dense)
    spread_dense(job, s, sums, cells, count, dy + own, ldy);
  else if (p.filters)
    spread_depthwise(job, sums, cells, count, dy + own, ldy);
  for (int i = 0; job.grad_extra && i < count; ++i)
    for (int e = 0; e < p.extra; ++e)
      job.grad_extra[e * job.geometry->cells + cells[i].index] += dy[i * ldy + p.perception - p.pooled - p.extra + e];
  for (int i = 0; p.pooled && i < count; ++i)
    for (int q = 0; q < p.pooled; ++q) job.grad_pooled[q] += dy[i * ldy + p.perception - p.pooled + q];
}
