// From dL/d(dense convolution) to what its cells saw: for every cell the sum over taps of what came to the cells that
// saw it through that tap, times the tap's weights. Gathered, so that every cell is written once.
#pragma once

#include "layers.cuh"
#include "perception_backward.cuh"

namespace ncafast::cuda {

struct DenseBack {
  Shape shape;
  Layers layers;
  const float* dense_dy;  // [B, *S, dense16]
  float* seen;            // [B, *S, C] written
};

// What came to all cells that see this one through a tap; on a padded edge those may be several.
NCAFAST_DEVICE float4 from_seers(const DenseBack& a, const Cell& cell, int tap, int quad) {
  const Shape& s = a.shape;
  const int width = a.layers.dense16;
  const float* from = a.dense_dy + cell.sample * s.cells * width + 4 * quad;
  const int reach[3] = {s.radius[0] - tap / s.kernel[2] / s.kernel[1], s.radius[1] - tap / s.kernel[2] % s.kernel[1],
                        s.radius[2] - tap % s.kernel[2]};
  float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  const auto inside = [&](int axis, int at) { return at >= 0 && at < s.size[axis]; };
  over_places(s, 0, cell.at[0], [&](int place_z) {
    if (!inside(0, place_z + reach[0])) return;
    over_places(s, 1, cell.at[1], [&](int place_y) {
      if (!inside(1, place_y + reach[1])) return;
      over_places(s, 2, cell.at[2], [&](int place_x) {
        if (!inside(2, place_x + reach[2])) return;
        const int at[3] = {place_z + reach[0], place_y + reach[1], place_x + reach[2]};
        sum = add4(sum, quad_at(from + static_cast<int64_t>(cell_number(s, at)) * width));
      });
    });
  });
  return sum;
}

template <Precision precision>
__global__ void __launch_bounds__(layer_threads, 1) dense_back(const __grid_constant__ DenseBack a) {
  using P = Product<precision>;
  const Shape& s = a.shape;
  const Layers& l = a.layers;
  float* const seen = shared_memory<float>();  // [rows, row]
  grid_dependency_wait();
  const int64_t start = static_cast<int64_t>(blockIdx.x) * l.rows, left = s.batch * s.cells - start;
  const int rows = static_cast<int>(left < l.rows ? left : l.rows), tiles = tiles_of(rows);
  const int most = (l.row - 16) / l.dense16, quads = l.dense16 / 4;
  Sums sums;
  start_sums(nullptr, l.channels16, sums);
  for (int first = 0; first < s.taps; first += most) {
    const int taps = s.taps - first < most ? s.taps - first : most;
    for (int i = static_cast<int>(threadIdx.x); i < 16 * tiles * taps * quads; i += layer_threads) {
      const int quad = i % quads, tap = i / quads % taps, row = i / quads / taps;
      float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      if (row < rows) sum = from_seers(a, cell_at(s, start + row), first + tap, quad);
      quad_at(seen + row * l.row + tap * l.dense16 + 4 * quad) = rounded4<P>(sum);
    }
    __syncthreads();
    add_product<precision>(Rows{seen, l.row, tiles}, taps * l.dense16,
                           Outputs{l.weights.dense_back + first * l.dense16, s.taps * l.dense16, l.channels16}, sums);
    __syncthreads();
  }
  each_pair(tiles, l.channels16, sums, [&](int row, int c, const float* pair) {
#pragma unroll
    for (int i = 0; i < 2; ++i)
      if (row < rows && c + i < s.channels) a.seen[(start + row) * s.channels + c + i] = pair[i];
  });
}

}  // namespace ncafast::cuda
