// A step backward of layered rules: the active cells of some tiles forward again through all layers, then back, down to
// dL/dy of the perception. What went into every layer and what came back to it is written down, row by row, for the
// products that the gradients of the layers are; see layers_sums.cuh.
#pragma once

#include "layers.cuh"

namespace ncafast::cuda {

// Rows of active cells: those of the n-th of the tiles begin at row n tile_rows. As many as there are cells, rounded up
// to a multiple of 16, are written; those past the cells have 0 for every delta.
struct Trail {
  int* counts;  // active cells of each tile
  int tile_rows;
  float* y;                          // [rows, perception16]
  float* taps;                       // [rows, taps * channels16] what a dense convolution reads
  float* dense;                      // [rows, dense16] its deltas
  float* hidden[max_hidden_layers];  // [rows, width] activations
  float* delta[max_hidden_layers];   // [rows, width]
  float* update;                     // [rows, channels16] dL/d(update)
};

struct LayersBack {
  Shape shape;
  Layers layers;
  Stored<const void> x, g;  // the state, dL/d(next state)
  Activity activity;
  Extra<const float> extra;
  Trail trail;
  int64_t first_tile;
  int tiles;
  float* dy;        // [B, *S, perception16] written, 0 where a cell took no part
  float* dense_dy;  // [B, *S, dense16] the same of a dense convolution, before its activation
};

// Copies of what the perception is made of, into rows of the trail from `first` on.
struct Keep {
  const Shape& s;
  const Layers& l;
  const Trail& trail;
  const float* y;
  int64_t first;
  int rows;

  NCAFAST_DEVICE void copy(int columns, float* to, int stride) const {
    each_quad(tiles_of(rows), columns,
              [&](int row, int c) { quad_at(to + (first + row) * stride + c) = quad_at(y + row * l.row + c); });
  }
  NCAFAST_DEVICE void taps(int tap, int count) const {
    copy(count * l.channels16, trail.taps + tap * l.channels16, s.taps * l.channels16);
  }
  NCAFAST_DEVICE void dense(int row, int c, const float4& value) const {
    quad_at(trail.dense + (first + row) * l.dense16 + c) = value;
  }
  NCAFAST_DEVICE void layer(int number, int row, int c, const float4& value) const {
    quad_at(trail.hidden[number] + (first + row) * l.width[number] + c) = value;
  }
};

// What an activation of z passes on of d.
NCAFAST_DEVICE float4 passed_back(Activation kind, float slope, const float4& z, const float4& d) {
  const float of[1][4] = {{z.x, z.y, z.z, z.w}};
  float delta[1][4] = {{d.x, d.y, d.z, d.w}};
  through_activation<1>(kind, slope, of, delta);
  return make_float4(delta[0][0], delta[0][1], delta[0][2], delta[0][3]);
}

// dL/d(update) of the listed cells, 0 past them: into rows of `to` and of the trail.
template <class P>
NCAFAST_DEVICE void gather_update(const LayersBack& a, const Tile& tile, const int* shown, const uint16_t* list,
                                  int rows, int64_t first, float* to) {
  const Shape& s = a.shape;
  const int width = a.layers.channels16;
  with_type(a.g, [&](const auto& g) {
    for (int i = static_cast<int>(threadIdx.x); i < 16 * tiles_of(rows) * width; i += layer_threads) {
      const int row = i / width, c = i % width;
      float value = 0.0f;
      if (row < rows && touched(s, c)) {
        const int64_t cell = shown_cell(s, shown, list[row]);
        value = P::rounded(s.scale * widened(g.values[tile.sample * g.sample + cell * g.cell + c * g.channel]));
      }
      to[row * a.layers.row + c] = value;
      a.trail.update[(first + row) * width + c] = value;
    }
  });
}

// Back through the hidden layers: from rows of dL/d(update) to the deltas of the first layer, in rows of y.
template <Precision precision>
NCAFAST_DEVICE void back_through_layers(const LayersBack& a, int rows, int64_t first, float* y) {
  using P = Product<precision>;
  const Shape& s = a.shape;
  const Layers& l = a.layers;
  const int tiles = tiles_of(rows);
  Outputs outputs{l.weights.update_back, l.channels16, l.width[l.count - 1]};
#pragma unroll 1
  for (int number = l.count - 1; number >= 0; --number) {
    const int width = l.width[number];
    Sums d;
    start_sums(nullptr, width, d);
    add_product<precision>(Rows{y, l.row, tiles}, outputs.stride, outputs, d);
    put_sums(l, tiles, width, d, y);
    each_quad(tiles, width, [&](int row, int c) {
      float4 &here = quad_at(y + row * l.row + c), &kept = quad_at(a.trail.hidden[number] + (first + row) * width + c);
      const float4 z = kept;
      kept = rounded4<P>(activated(s.activation, s.slope, z));
      here = rounded4<P>(passed_back(s.activation, s.slope, z, here));
      quad_at(a.trail.delta[number] + (first + row) * width + c) = here;
    });
    __syncthreads();
    if (number > 0) outputs = {l.weights.hidden_back[number], width, l.inputs[number]};
  }
}

// Rows of y = the deltas of the first layer times some of its weights, transposed, from `column` on.
template <Precision precision>
NCAFAST_DEVICE void deltas_back(const LayersBack& a, int tiles, int64_t first, int column, int count, float* y) {
  const Layers& l = a.layers;
  const int width = l.width[0];
  each_quad(tiles, width, [&](int row, int c) {
    quad_at(y + row * l.row + c) = quad_at(a.trail.delta[0] + (first + row) * width + c);
  });
  __syncthreads();
  Sums d;
  start_sums(nullptr, count, d);
  add_product<precision>(Rows{y, l.row, tiles}, width, Outputs{l.weights.hidden_back[0] + column * width, width, count},
                         d);
  put_sums(l, tiles, count, d, y);
}

// dL/dy of the listed cells, from the deltas of the first layer. All threads are done with the rows of y.
template <Precision precision>
NCAFAST_DEVICE void write_seen(const LayersBack& a, const Tile& tile, const int* shown, const uint16_t* list, int rows,
                               int64_t first, float* y) {
  using P = Product<precision>;
  const Shape& s = a.shape;
  const Layers& l = a.layers;
  const int tiles = tiles_of(rows);
  const auto cell_of = [&](int row) { return tile.sample * s.cells + shown_cell(s, shown, list[row]); };
#pragma unroll 1
  for (int column = 0; column < s.perception16; column += layer_units) {
    const int left = s.perception16 - column, count = left < layer_units ? left : layer_units;
    deltas_back<precision>(a, tiles, first, column, count, y);
    each_quad(tiles, count, [&](int row, int c) {
      if (row < rows) quad_at(a.dy + cell_of(row) * s.perception16 + column + c) = quad_at(y + row * l.row + c);
    });
    __syncthreads();
  }
  if (s.dense == 0) return;
  deltas_back<precision>(a, tiles, first, s.own, l.dense16, y);
  each_quad(tiles, l.dense16, [&](int row, int c) {
    float4& kept = quad_at(a.trail.dense + (first + row) * l.dense16 + c);
    float4 value = passed_back(l.dense_activation, l.dense_slope, kept, quad_at(y + row * l.row + c));
    const int left = s.dense - c;  // past them lie extra channels
    value = make_float4(left > 0 ? value.x : 0.0f, left > 1 ? value.y : 0.0f, left > 2 ? value.z : 0.0f,
                        left > 3 ? value.w : 0.0f);
    if (row < rows) quad_at(a.dense_dy + cell_of(row) * l.dense16 + c) = value;
    kept = rounded4<P>(value);
  });
}

// Zeros for the cells of the tile that take no part, the last of its list, in an array [B, *S, width].
NCAFAST_DEVICE void clear_idle(const Shape& s, const Tile& tile, const LayerMemory& m, int width, float* to) {
  const int quads = width / 4, count = m.count[1];
  for (int i = static_cast<int>(threadIdx.x); i < count * quads; i += layer_threads) {
    const int cell = shown_cell(s, m.shown, m.list[s.box_cells - 1 - i / quads]);
    quad_at(to + (tile.sample * s.cells + cell) * width + 4 * (i % quads)) = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  }
}

template <Precision precision>
__global__ void __launch_bounds__(layer_threads, 1) layers_back(const __grid_constant__ LayersBack a) {
  using P = Product<precision>;
  const Shape& s = a.shape;
  const Layers& l = a.layers;
  Arena arena(shared_memory<unsigned char>());
  const LayerMemory m(s, l, arena);
  grid_dependency_wait();
  grid_dependency_release();
  load_array(m.filters, l.weights.filters, s.taps * s.filters * s.channels4);
  load_array(m.filter_bias, l.weights.filter_bias, s.filters * s.channels4);
  const Sight sight{m.tile, m.filters, m.filter_bias, nullptr, a.extra};
#pragma unroll 1
  for (int number = static_cast<int>(blockIdx.x); number < a.tiles; number += static_cast<int>(gridDim.x)) {
    const Tile tile = tile_at(s, static_cast<int>(a.first_tile) + number);
    __syncthreads();
    note_shown(s, tile, m.shown);
    __syncthreads();
    load_tile(s, a.x, tile, m.shown, m.tile);
    list_active(s, a.activity, tile, m.list, m.marks, m.count);
    clear_idle(s, tile, m, s.perception16, a.dy);
    clear_idle(s, tile, m, l.dense16, a.dense_dy);
    copy_async_wait();
    __syncthreads();
    const int count = *m.count;
    if (threadIdx.x == 0) a.trail.counts[number] = count;
    for (int from = 0; from < count; from += l.rows) {
      if (from > 0) __syncthreads();  // all are done with the rows
      const uint16_t* list = m.list + from;
      const int rows = count - from < l.rows ? count - from : l.rows, tiles = tiles_of(rows);
      const int64_t first = static_cast<int64_t>(number) * a.trail.tile_rows + from;
      const Keep keep{s, l, a.trail, m.rows, first, rows};
      perceive<precision>(s, l, sight, tile, list, rows, m.rows, keep);
      keep.copy(s.perception16, a.trail.y, s.perception16);
#pragma unroll 1
      for (int layer = 0; layer < l.count; ++layer) through_layer<precision>(s, l, layer, tiles, m.rows, keep);
      gather_update<P>(a, tile, m.shown, list, rows, first, m.rows);
      __syncthreads();
      back_through_layers<precision>(a, rows, first, m.rows);
      write_seen<precision>(a, tile, m.shown, list, rows, first, m.rows);
    }
  }
}

}  // namespace ncafast::cuda
