// A step forward of layered rules: a block takes the active cells of a tile through all layers, some rows of them at a
// time, their activations in shared memory. A product's sums are in registers, so that what comes of a layer replaces
// what went into it.
#pragma once

#include "layers.h"
#include "quads.cuh"
#include "step.cuh"
#include "stored.cuh"

namespace ncafast::cuda {

// Shared memory of a block.
struct LayerMemory {
  float *tile, *rows, *filters, *filter_bias;
  uint16_t* list;
  uint8_t* marks;
  int *count, *shown;

  NCAFAST_HOST_DEVICE LayerMemory(const Shape& s, const Layers& l, Arena& arena) {
    tile = arena.take<float>(int64_t{s.halo_cells} * s.channels4);
    rows = arena.take<float>(int64_t{l.rows} * l.row);
    filters = arena.take<float>(int64_t{s.taps} * s.filters * s.channels4);
    filter_bias = arena.take<float>(int64_t{s.filters} * s.channels4);
    list = arena.take<uint16_t>(s.box_cells);
    marks = arena.take<uint8_t>(s.box_cells);
    count = arena.take<int>(2);
    shown = arena.take<int>(shown_parts(s));
  }
};

NCAFAST_DEVICE int tiles_of(int rows) { return (rows + 15) / 16; }

template <class P>
NCAFAST_DEVICE float4 rounded4(const float4& v) {
  return make_float4(P::rounded(v.x), P::rounded(v.y), P::rounded(v.z), P::rounded(v.w));
}

// Activations are computed on rows in shared memory, in a loop: for each of a thread's 64 sums they would be code of
// their own, seven kinds long.
NCAFAST_DEVICE float4 activated(Activation kind, float slope, const float4& v) {
  float values[1][4] = {{v.x, v.y, v.z, v.w}};
  activate<1>(kind, slope, values);
  return make_float4(values[0][0], values[0][1], values[0][2], values[0][3]);
}

// Calls work(row, c) for every fourth of so many columns of all rows of the tiles, shared out among the threads.
template <class Work>
NCAFAST_DEVICE void each_quad(int tiles, int columns, Work work) {
  const int quads = columns / 4;
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < 16 * tiles * quads; i += layer_threads)
    work(i / quads, 4 * (i % quads));
}

// Sums to rows of y, in columns from 0 on, once all threads are done with what was there. Ends with a barrier.
NCAFAST_DEVICE void put_sums(const Layers& l, int tiles, int width, Sums& sums, float* y) {
  __syncthreads();
  each_pair(tiles, width, sums, [&](int row, int output, const float* pair) {
    *reinterpret_cast<float2*>(y + row * l.row + output) = make_float2(pair[0], pair[1]);
  });
  __syncthreads();
}

// Columns [0, taps * channels16) of the rows: what `taps` taps from `first` on show of the listed cells, 0 past them.
template <class P>
NCAFAST_DEVICE void gather_taps(const Shape& s, const Layers& l, const float* states, const uint16_t* list, int rows,
                                int first, int taps, float* to) {
  const int quads = l.channels16 / 4, count = 16 * tiles_of(rows) * taps * quads;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += layer_threads) {
    const int quad = i % quads, number = i / quads % taps, row = i / quads / taps, tap = first + number;
    const int x = tap % s.kernel[2], y = tap / s.kernel[2] % s.kernel[1], z = tap / s.kernel[2] / s.kernel[1];
    const int shift = ((z - s.radius[0]) * s.halo[1] + y - s.radius[1]) * s.halo[2] + x - s.radius[2];
    float4 value = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (row < rows && 4 * quad < s.channels4) value = quad_at(states + (list[row] + shift) * s.channels4 + 4 * quad);
    quad_at(to + row * l.row + number * l.channels16 + 4 * quad) = rounded4<P>(value);
  }
}

// The dense convolution of the listed cells, before its activation. `keep.taps(first, taps)` is called while the rows
// hold what those taps show.
template <Precision precision, class Keep>
NCAFAST_DEVICE void convolve(const Shape& s, const Layers& l, const Sight& sight, const uint16_t* list, int rows,
                             float* y, Keep keep, Sums& sums) {
  start_sums(l.weights.dense_bias, l.dense16, sums);
  const int most = (l.row - 16) / l.channels16;
  for (int first = 0; first < s.taps; first += most) {
    const int taps = s.taps - first < most ? s.taps - first : most;
    gather_taps<Product<precision>>(s, l, sight.tile, list, rows, first, taps, y);
    __syncthreads();
    keep.taps(first, taps);
    add_product<precision>(Rows{y, l.row, tiles_of(rows)}, taps * l.channels16,
                           Outputs{l.weights.dense + first * l.channels16, s.taps * l.channels16, l.dense16}, sums);
    __syncthreads();
  }
}

// Zeros where `see` and the convolution leave a row alone, and in rows past the last up to a multiple of 16.
NCAFAST_DEVICE void clear_unseen(const Shape& s, const Layers& l, int rows, float* y) {
  const int thread = static_cast<int>(threadIdx.x), width = s.perception16 - s.perception;
  for (int i = thread; i < rows * width; i += layer_threads) y[i / width * l.row + s.perception + i % width] = 0.0f;
  const int unused = 16 * tiles_of(rows) - rows;
  for (int i = thread; i < unused * s.perception16; i += layer_threads)
    y[(rows + i / s.perception16) * l.row + i % s.perception16] = 0.0f;
}

// The activations of the convolution, in their columns of the perception. `keep.dense(row, c, value)` gets what they
// are of, four at a time.
template <Precision precision, class Keep>
NCAFAST_DEVICE void put_convolved(const Shape& s, const Layers& l, int rows, float* y, Keep keep, Sums& sums) {
  using P = Product<precision>;
  const int tiles = tiles_of(rows);
  each_pair(tiles, l.dense16, sums, [&](int row, int output, const float* pair) {
#pragma unroll
    for (int i = 0; i < 2; ++i)
      if (output + i < s.dense) y[row * l.row + s.own + output + i] = pair[i];
  });
  __syncthreads();
  each_quad(tiles, l.dense16, [&](int row, int c) {
    float* const here = y + row * l.row + s.own + c;
    const int left = s.dense - c;
    const float4 value = make_float4(left > 0 ? here[0] : 0.0f, left > 1 ? here[1] : 0.0f, left > 2 ? here[2] : 0.0f,
                                     left > 3 ? here[3] : 0.0f);
    keep.dense(row, c, value);
    const float4 out = rounded4<P>(activated(l.dense_activation, l.dense_slope, value));
    if (left > 0) here[0] = out.x;
    if (left > 1) here[1] = out.y;
    if (left > 2) here[2] = out.z;
    if (left > 3) here[3] = out.w;
  });
  __syncthreads();
}

// The perception of the listed cells, in rows of y. All threads are done with what was there; ends with a barrier.
template <Precision precision, class Keep>
NCAFAST_DEVICE void perceive(const Shape& s, const Layers& l, const Sight& sight, const Tile& tile,
                             const uint16_t* list, int rows, float* y, Keep keep) {
  if (s.dense > 0) {
    Sums sums;
    convolve<precision>(s, l, sight, list, rows, y, keep, sums);
    put_convolved<precision>(s, l, rows, y, keep, sums);
  }
  see<Product<precision>, 4>(s, sight, tile, list, rows, y);
  clear_unseen(s, l, rows, y);
  __syncthreads();
}

// Hidden layer `number`: its activations take the place of what went into it. `keep.layer(number, row, c, value)` gets
// what they are of, four at a time.
template <Precision precision, class Keep>
NCAFAST_DEVICE void through_layer(const Shape& s, const Layers& l, int number, int tiles, float* y, Keep keep) {
  using P = Product<precision>;
  const int width = l.width[number], inputs = l.inputs[number];
  Sums sums;
  start_sums(l.weights.hidden_bias[number], width, sums);
  add_product<precision>(Rows{y, l.row, tiles}, inputs, Outputs{l.weights.hidden[number], inputs, width}, sums);
  put_sums(l, tiles, width, sums, y);
  each_quad(tiles, width, [&](int row, int c) {
    float4& here = quad_at(y + row * l.row + c);
    keep.layer(number, row, c, here);
    here = rounded4<P>(activated(s.activation, s.slope, here));
  });
  __syncthreads();
}

struct LayersStep {
  Shape shape;
  Layers layers;
  Stored<const void> from;
  Stored<void> to;  // what the step leaves; under an alive mask not yet the state after it
  Activity activity;
  Extra<const float> extra;
  Life life;
};

// Nothing is kept of what is computed on the way.
struct Forget {
  NCAFAST_DEVICE void taps(int, int) const {}
  NCAFAST_DEVICE void dense(int, int, const float4&) const {}
  NCAFAST_DEVICE void layer(int, int, int, const float4&) const {}
};

// Writes x + scale d of the listed cells, d in the rows.
NCAFAST_DEVICE void write_updated(const LayersStep& a, const LayerMemory& m, const Tile& tile, const uint16_t* list,
                                  int rows) {
  const Shape& s = a.shape;
  put_cells(
      s, a.to, tile, m.shown, rows, [&](int row) { return list[row]; },
      [&](int row, int place, int c) {
        const float4 own = quad_at(m.tile + place * s.channels4 + c), d = quad_at(m.rows + row * a.layers.row + c);
        return make_float4(moved(s, c, own.x, d.x), moved(s, c + 1, own.y, d.y), moved(s, c + 2, own.z, d.z),
                           moved(s, c + 3, own.w, d.w));
      });
}

// Copies the cells that take no part.
NCAFAST_DEVICE void write_idle(const LayersStep& a, const LayerMemory& m, const Tile& tile) {
  const Shape& s = a.shape;
  put_cells(
      s, a.to, tile, m.shown, m.count[1], [&](int number) { return m.list[s.box_cells - 1 - number]; },
      [&](int, int place, int c) { return quad_at(m.tile + place * s.channels4 + c); });
}

template <Precision precision>
__global__ void __launch_bounds__(layer_threads, 1) layers_step(const __grid_constant__ LayersStep a) {
  const Shape& s = a.shape;
  const Layers& l = a.layers;
  Arena arena(shared_memory<unsigned char>());
  const LayerMemory m(s, l, arena);
  grid_dependency_wait();
  grid_dependency_release();
  load_array(m.filters, l.weights.filters, s.taps * s.filters * s.channels4);
  load_array(m.filter_bias, l.weights.filter_bias, s.filters * s.channels4);
  const Sight sight{m.tile, m.filters, m.filter_bias, nullptr, a.extra};
  const InMemory where{{}, a.life};  // which cells are wanted
  over_own_tiles(s, m.shown, [&](const Tile& tile, int64_t, bool follows) {
    load_next_tile(s, a.from, tile, m.shown, follows, m.tile);
    list_active(
        s, a.activity, tile, [&](const BoxCell& cell) { return where.wanted(s, tile, cell); }, m.list, m.marks,
        m.count);
    copy_async_wait();
    __syncthreads();
    write_idle(a, m, tile);
    const int count = *m.count;
    for (int first = 0; first < count; first += l.rows) {
      if (first > 0) __syncthreads();  // all are done with the rows
      const uint16_t* list = m.list + first;
      const int rows = count - first < l.rows ? count - first : l.rows, tiles = tiles_of(rows);
      perceive<precision>(s, l, sight, tile, list, rows, m.rows, Forget{});
#pragma unroll 1
      for (int number = 0; number < l.count; ++number) through_layer<precision>(s, l, number, tiles, m.rows, Forget{});
      Sums sums;
      start_sums(l.weights.update_bias, l.channels16, sums);
      add_product<precision>(Rows{m.rows, l.row, tiles}, l.width[l.count - 1],
                             Outputs{l.weights.update, l.width[l.count - 1], l.channels16}, sums);
      put_sums(l, tiles, l.channels16, sums, m.rows);
      write_updated(a, m, tile, list, rows);
    }
  });
}

}  // namespace ncafast::cuda
