// Perception of chosen cells: what each of them sees. Its transpose is in spread.h.

NCAFAST_INLINE const float* state_of(const Job& job, Cell cell) {
  return job.x + static_cast<int64_t>(cell.padded) * job.geometry->channels;
}

NCAFAST_INLINE int valid_of(int channels, int channel) { return channels - channel < W ? channels - channel : W; }

NCAFAST_INLINE void copy(float* to, const float* from, int n) {
  int i = 0;
  for (; i + W <= n; i += W) store(to + i, load(from + i));
  if (i < n) store_first(to + i, load_first(from + i, n - i), n - i);
}

// The first n <= W floats.
NCAFAST_INLINE vec read_first(const float* p, int n) { return n == W ? load(p) : load_first(p, n); }
NCAFAST_INLINE void write_first(float* p, vec v, int n) { n == W ? store(p, v) : store_first(p, v, n); }
NCAFAST_INLINE void add_first(float* p, vec v, int n) { write_first(p, read_first(p, n) + v, n); }

// Rows of `to`, one for each cell: `width` floats from from(i), less `about` unless that is null.
template <class From>
NCAFAST_INLINE void lay(int count, int64_t width, From from, const float* about, float* to, int64_t ld) {
  for (int64_t c = 0; c < width; c += W) {
    const int valid = width - c < W ? static_cast<int>(width - c) : W;
    const vec less = about ? read_first(about + c, valid) : vec{};
    if (valid == W)
      for (int i = 0; i < count; ++i) store(to + i * ld + c, load(from(i) + c) - less);
    else
      for (int i = 0; i < count; ++i) store_first(to + i * ld + c, load_first(from(i) + c, valid) - less, valid);
  }
}

// Calls work(Number<K>) with the filters' width K.
template <class Work>
NCAFAST_INLINE void with_width(const Geometry& geometry, const Work& work) {
  switch (2 * geometry.radius[2] + 1) {
    case 1:
      return work(Number<1>{});
    case 3:
      return work(Number<3>{});
    case 5:
      return work(Number<5>{});
    default:
      return work(Number<7>{});
  }
}

// Where the depthwise filters [first, first + F) and the channels [channel, channel + W) lie, and which taps of them
// are asked for: [begin, end), whole rows of the filter.
struct Slice {
  int first, channel, begin, end;
  const float* about;  // [F, C] what is taken off all that the filters give, or null
};

template <int F>
NCAFAST_INLINE void read_start(const Packed& p, const Slice& slice, vec* start) {
  const int valid = valid_of(p.channels, slice.channel);
#pragma GCC unroll 4
  for (int f = 0; f < F; ++f) {
    start[f] = load(p.tap_bias + (slice.first + f) * round_up(p.channels, W) + slice.channel);
    if (slice.about)
      start[f] -= read_first(slice.about + (slice.first + f) * static_cast<int64_t>(p.channels) + slice.channel, valid);
  }
}

// sum = `start`, or with `more` what N cells gave for the slice so far, in y.
template <int N, int F>
NCAFAST_INLINE void start_sums(const vec* start, bool more, const float* y, int64_t ldy, int64_t C, int valid,
                               vec (*sum)[F]) {
  if (!more) {
#pragma GCC unroll 4
    for (int f = 0; f < F; ++f)
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) sum[n][f] = start[f];
  } else if (valid == W) {
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n)
#pragma GCC unroll 4
      for (int f = 0; f < F; ++f) sum[n][f] = load(y + n * ldy + f * C);
  } else {
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n)
#pragma GCC unroll 4
      for (int f = 0; f < F; ++f) sum[n][f] = load_first(y + n * ldy + f * C, valid);
  }
}

template <int N, int F>
NCAFAST_INLINE void keep_sums(const vec (*sum)[F], float* y, int64_t ldy, int64_t C, int valid) {
  if (valid == W) {
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n)
#pragma GCC unroll 4
      for (int f = 0; f < F; ++f) store(y + n * ldy + f * C, sum[n][f]);
  } else {
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n)
#pragma GCC unroll 4
      for (int f = 0; f < F; ++f) store_first(y + n * ldy + f * C, sum[n][f], valid);
  }
}

// A row of one filter on N cells that start at `from`. Each value is read once and used for all cells that see it: tap
// by tap the compiler would keep more of them than there are registers. (AVX2, EPYC 25-1, 2026-11-29: 27 taps of 48
// cells at 83 instead of 46 GFLOP/s.)
template <int N, int K>
NCAFAST_INLINE void slide(const float* from, int64_t C, const float* tap, int64_t tap_stride, vec* sum) {
  vec weight[K];
#pragma GCC unroll 8
  for (int d = 0; d < K; ++d) weight[d] = load(tap + d * tap_stride);
#pragma GCC unroll 16
  for (int j = 0; j < N + K - 1; ++j) {
    const vec value = load(from + j * C);
#pragma GCC unroll 8
    for (int d = 0; d < K; ++d)
      if (j - d >= 0 && j - d < N) sum[j - d] = weight[d] * value + sum[j - d];
  }
}

// A slice of the filters of `count` cells, N at a time: N * F sums hide the latency of the FMA. K is the filters'
// width. Where the cells lie side by side, what they see overlaps and stays in registers. y is the slice's place in the
// first cell's row.
template <int N, int F, int K, bool SIDE_BY_SIDE>
NCAFAST_APART void filter_cells(const Job& job, const Slice& slice, const Cell* cells, int count, float* y,
                                int64_t ldy) {
  const Packed& p = *job.packed;
  const int64_t C = p.channels, Cp = round_up(C, W), tap_stride = Cp * p.filters;
  const int64_t* offset = job.geometry->offset;
  const float* taps = p.taps + slice.begin * tap_stride + slice.first * Cp + slice.channel;
  const int valid = valid_of(C, slice.channel);
  vec start[F];
  read_start<F>(p, slice, start);
  for (int i = 0; i < count; i += N, y += N * ldy) {
    vec sum[N][F];
    start_sums<N, F>(start, slice.begin > 0, y, ldy, C, valid, sum);
    const float* base[N];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) base[n] = state_of(job, cells[SIDE_BY_SIDE ? i : i + n]) + slice.channel;
    const float* tap = taps;
    for (int t = slice.begin; t < slice.end; t += K, tap += K * tap_stride) {
      if constexpr (SIDE_BY_SIDE && F == 1)
        slide<N, K>(base[0] + offset[t], C, tap, tap_stride, sum[0]);
      else
#pragma GCC unroll 8
        for (int d = 0; d < K; ++d) {
          vec weight[F];
#pragma GCC unroll 4
          for (int f = 0; f < F; ++f) weight[f] = load(tap + d * tap_stride + f * Cp);
#pragma GCC unroll 8
          for (int n = 0; n < N; ++n) {
            const vec value = load(SIDE_BY_SIDE ? base[0] + offset[t] + (n + d) * C : base[n] + offset[t] + d * C);
#pragma GCC unroll 4
            for (int f = 0; f < F; ++f) sum[n][f] = weight[f] * value + sum[n][f];
          }
        }
    }
    keep_sums<N, F>(sum, y, ldy, C, valid);
  }
}

// Cells [begin, end) of a tile that lie side by side, a multiple of `side_by_side` of them, or that lie anywhere.
struct Piece {
  int begin, end;
  bool run;
};

constexpr int side_by_side = 8;

// Cuts a tile into pieces; returns their number.
static int cut(const Cell* cells, int count, Piece* pieces) {
  int found = 0, apart = 0;
  if (count && count % side_by_side == 0 && cells[count - 1].padded - cells[0].padded == count - 1) {
    pieces[0] = {0, count, true};
    return 1;
  }
  int runs = 0;  // counted without branches: among scattered cells they cannot be predicted
  for (int i = 0; i + side_by_side <= count; ++i)
    runs += cells[i + side_by_side - 1].padded - cells[i].padded == side_by_side - 1;
  if (!runs) {
    pieces[0] = {0, count, false};
    return count > 0;
  }
  for (int i = 0; i < count;) {
    int end = i + 1;
    while (end < count && cells[end].padded - cells[i].padded == end - i) ++end;
    const int whole = (end - i) / side_by_side * side_by_side;
    if (whole) {
      if (apart < i) pieces[found++] = {apart, i, false};
      pieces[found++] = {i, i + whole, true};
      apart = i + whole;
    }
    i = end;
  }
  if (apart < count) pieces[found++] = {apart, count, false};
  return found;
}

// (Scattered cells six at a time: AVX2, EPYC 25-1, 2026-11-29, 3 x 3 taps at 59 GFLOP/s, eight at a time at 53.)
template <int F, int K>
static void filter_piece(const Job& job, const Slice& slice, const Piece& piece, const Cell* cells, float* y,
                         int64_t ldy) {
  constexpr bool many = NCAFAST_REGISTERS == 32;
  constexpr int together = many || F == 1 ? 8 : 4, apart = F > 1 ? 4 : many ? 8 : 6;
  const int count = piece.end - piece.begin;
  cells += piece.begin;
  y += piece.begin * ldy + slice.first * job.packed->channels + slice.channel;
  if (piece.run) return filter_cells<together, F, K, true>(job, slice, cells, count, y, ldy);
  const int full = count / apart * apart;
  filter_cells<apart, F, K, false>(job, slice, cells, full, y, ldy);
  filter_cells<1, F, K, false>(job, slice, cells + full, count - full, y + full * ldy, ldy);
}

// Few taps at a time: what the tile's cells see of them stays in the nearest cache, for the other channels too. (AVX2,
// EPYC 25-1, one thread, 2026-11-29: 343 taps of 16 channels in the cache at 88 GFLOP/s, all at once at 60; the peak is
// 103.)
template <int F, int K>
static void filter_tile(const Job& job, const Cell* cells, const Piece* pieces, int count, int first,
                        const float* about, float* y, int64_t ldy) {
  constexpr int at_once = K < 5 ? 27 : K * K;
  const int taps = job.geometry->taps;
  for (int begin = 0; begin < taps; begin += at_once)
    for (int channel = 0; channel < job.packed->channels; channel += W) {
      const Slice slice{first, channel, begin, begin + at_once < taps ? begin + at_once : taps, about};
      for (int i = 0; i < count; ++i) filter_piece<F, K>(job, slice, pieces[i], cells, y, ldy);
    }
}

template <int K>
static void see_depthwise(const Job& job, const Cell* cells, int count, const float* about, float* y, int64_t ldy) {
  Piece pieces[tile_cells];
  const int cuts = cut(cells, count, pieces), filters = job.packed->filters;
  for (int first = 0, now; first < filters; first += now) {
    const int left = filters - first;
    now = left == 4 ? 2 : left < 3 ? left : 3;  // 4 as 2 + 2: a lone filter reads as much as two
    if (now == 3)
      filter_tile<3, K>(job, cells, pieces, cuts, first, about, y, ldy);
    else if (now == 2)
      filter_tile<2, K>(job, cells, pieces, cuts, first, about, y, ldy);
    else
      filter_tile<1, K>(job, cells, pieces, cuts, first, about, y, ldy);
  }
}

static void see_depthwise(const Job& job, const Cell* cells, int count, const float* about, float* y, int64_t ldy) {
  with_width(*job.geometry,
             [&](auto width) { see_depthwise<decltype(width)::value>(job, cells, count, about, y, ldy); });
}

static void see_or_recall(const Job& job, const Cell* cells, int count, const float* about, float* y, int64_t ldy) {
  if (!job.seen) return see_depthwise(job, cells, count, about, y, ldy);
  const int64_t width = static_cast<int64_t>(job.packed->filters) * job.packed->channels;
  const auto kept = [&](int i) { return job.seen + cells[i].index * width; };
  if (!job.seen_known) {
    see_depthwise(job, cells, count, nullptr, y, ldy);
    for (int i = 0; i < count; ++i) copy(kept(i), y + i * ldy, width);
    if (!about) return;
  }
  lay(count, width, kept, about, y, ldy);
}

// Dense perception: the neighbours side by side, then one product.
static void see_dense(const Job& job, const Scratch& s, const Cell* cells, int count, const float* about, float* y,
                      int64_t ldy, bool slopes) {
  const Packed& p = *job.packed;
  const Geometry& g = *job.geometry;
  const int64_t width = round_up(p.conv.outputs, W), ldc = round_up(p.conv.inputs, W) + W;
  for (int i = 0; i < count; ++i)
    for (int t = 0; t < g.taps; ++t)
      copy(s.columns + i * ldc + t * p.channels, state_of(job, cells[i]) + g.offset[t], p.channels);
  gemm<Start::bias>(count, width, p.conv.inputs, s.columns, ldc, 1, p.conv.forward.floats, row_stride(width, W),
                    p.conv.bias, s.seen, width);
  if (slopes) differentiate(p.dense_activation, count * width, s.seen, s.seen_slope);
  activate(p.dense_activation, p.slope, count * width, s.seen);
  lay(count, p.conv.outputs, [&](int i) { return s.seen + i * width; }, about, y, ldy);
}

NCAFAST_INLINE int64_t extra_place(const Job& job, Cell cell) {
  const int32_t* n = job.geometry->size;
  const int32_t x = cell.index % n[2], row = cell.index / n[2];
  return row / n[1] * job.extra_axis[0] + row % n[1] * job.extra_axis[1] + x * job.extra_axis[2];
}

NCAFAST_INLINE int64_t perception_stride(const Packed& p) { return round_up(p.perception, 24) + W; }

// Rows of y: [state, filters or dense outputs, extra, pooled], less `about` [P] unless that is null. Past P there is
// rubbish.
static void perceive(const Job& job, const Scratch& s, const Cell* cells, int count, const float* about, bool slopes) {
  const Packed& p = *job.packed;
  const int64_t ldy = perception_stride(p);
  const auto from = [&](int64_t place) { return about ? about + place : nullptr; };
  float* y = s.perception;
  const int own = p.identity ? p.channels : 0;
  if (p.identity) lay(count, p.channels, [&](int i) { return state_of(job, cells[i]); }, about, y, ldy);
  if (p.dense)
    see_dense(job, s, cells, count, from(own), y + own, ldy, slopes);
  else if (p.filters)
    see_or_recall(job, cells, count, from(own), y + own, ldy);
  const int pooled = p.perception - p.pooled, extra = pooled - p.extra;
  for (int e = 0; e < p.extra; ++e)
    for (int i = 0; i < count; ++i)
      y[i * ldy + extra + e] =
          job.extra[extra_place(job, cells[i]) + e * job.extra_channel] - (about ? about[extra + e] : 0.0f);
  lay(count, p.pooled, [&](int) { return job.pooled; }, from(pooled), y + pooled, ldy);
}
