// One step backward from dL/dy to the states under batch norm (K2b): what flows through the batch's statistics, the
// filters' gradients, and the transposed perception.
//
// dL/dy of the cells that took part comes from memory, once, and is completed in shared memory for all cells of a tile:
// dy += A (y - ym) + c. There the gradients of filters and extra channels take it, and it is pushed to the states as in
// pushed.cuh. Where tiles would leave too much at their borders for that, it goes to memory for perception_backward.
#pragma once

#include "active.cuh"
#include "arena.h"
#include "filters_back.cuh"
#include "perception.cuh"
#include "products.cuh"
#include "pushed.cuh"

namespace ncafast::cuda {

struct BatchNormBackward {
  Shape shape;
  States<const float> x;
  Activity activity;  // whose dL/dy is in memory
  Weights weights;
  Extra<const float> extra;
  const float *matrix, *offset;  // A and c, see norm_back.cuh
  float* dy;                     // [B, *S, perception16]
  float* dx;                     // dL/dx is written, to where dL/d(next state) is,
  float* border;                 // and what it lacks; null: instead of both dy of all cells
  float* filter_slabs;           // of each block, added to; null where filters are fixed
  Extra<float> extra_back;       // of this step: [B, E, *S] added to; null where nobody wants it
};

constexpr int norm_threads = 128;

struct NormMemory {
  float *tile, *y, *matrix, *offset, *filters, *filter_bias, *pushed;
  int* shown;
  uint16_t* list;
  uint8_t *marks, *active;
  int* count;

  NCAFAST_HOST_DEVICE NormMemory(const Shape& s, bool pushes, Arena& arena) {
    tile = arena.take<float>(int64_t{s.halo_cells} * s.channels4);
    y = arena.take<float>(int64_t{(s.box_cells + 15) / 16 * 16} * s.perception_row);
    matrix = arena.take<float>(int64_t{s.perception16} * s.perception_row);
    offset = arena.take<float>(s.perception16);
    filters = arena.take<float>(int64_t{s.taps} * s.filters * s.channels4);
    filter_bias = arena.take<float>(int64_t{s.filters} * s.channels4);
    pushed = arena.take<float>(pushes ? int64_t{s.halo_cells} * pushed_row(s) : 0);
    shown = arena.take<int>(shown_parts(s));
    list = arena.take<uint16_t>(s.box_cells);
    marks = arena.take<uint8_t>(s.box_cells);
    active = arena.take<uint8_t>(s.halo_cells);
    count = arena.take<int>(2);
  }
};

// Turns 16 rows of y into dL/dy, in place, by one warp. Those past `rows` are left alone, as what they hold is unknown.
template <Precision precision, int most_p8>
NCAFAST_DEVICE void complete_rows(const BatchNormBackward& a, const NormMemory& m, const Tile& tile, int first,
                                  int rows) {
  using P = Product<precision>;
  const Shape& s = a.shape;
  const int g = lane_g(), t = lane_t();
  float* y = m.y + first * s.perception_row;
  float sum[most_p8][4];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first + 8 * half + g, place = row < rows ? m.list[row] : 0;
    const float* from = nullptr;
    if (row < rows && m.active[place])
      from = a.dy + (tile.sample * s.cells + shown_cell(s, m.shown, place)) * s.perception16;
#pragma unroll
    for (int n = 0; n < most_p8; ++n) {
      if (8 * n >= s.perception16) continue;
      const int p = 8 * n + 2 * t;
      const float2 own = from ? *reinterpret_cast<const float2*>(from + p) : make_float2(0.0f, 0.0f);
      sum[n][2 * half] = own.x + m.offset[p];
      sum[n][2 * half + 1] = own.y + m.offset[p + 1];
    }
  }
  const Walk<P, true> own(ByRow{y, s.perception_row});
#pragma unroll 1
  for (int k = 0; k < s.perception16; k += P::k) {
    const auto left = own.left(k);
#pragma unroll
    for (int n = 0; n < most_p8; n += 2) {
      if (8 * n >= s.perception16) continue;
      typename P::Right b[2];
      Walk<P, false>(ByRow{m.matrix + 8 * n * s.perception_row, s.perception_row}).rights(k, b);
#pragma unroll
      for (int i = 0; i < 2; ++i) P::add(sum[n + i], left, b[i]);
    }
  }
  __syncwarp();  // all lanes have read the rows
#pragma unroll
  for (int n = 0; n < most_p8; ++n)
#pragma unroll
    for (int half = 0; half < 2; ++half)
      if (8 * n < s.perception16 && first + 8 * half + g < rows)
        *reinterpret_cast<float2*>(y + (8 * half + g) * s.perception_row + 8 * n + 2 * t) =
            make_float2(sum[n][2 * half], sum[n][2 * half + 1]);
}

// Rows of dL/dy to what the caller has of the extra channels' gradient.
NCAFAST_DEVICE void add_extra_rows(const BatchNormBackward& a, const NormMemory& m, const Tile& tile, int rows) {
  const Shape& s = a.shape;
  for (int i = static_cast<int>(threadIdx.x); i < rows * s.extra; i += norm_threads) {
    const int row = i / s.extra, e = i - row * s.extra;
    const int cell = shown_cell(s, m.shown, m.list[row]);
    a.extra_back.values[tile.sample * a.extra_back.sample_stride + e * s.cells + cell] +=
        m.y[row * s.perception_row + s.perception - s.extra + e];
  }
}

NCAFAST_DEVICE void write_rows(const BatchNormBackward& a, const NormMemory& m, const Tile& tile, int rows) {
  const Shape& s = a.shape;
  const int quads = s.perception16 / 4;
  for (int i = static_cast<int>(threadIdx.x); i < rows * quads; i += norm_threads) {
    const int row = i / quads, p = 4 * (i - row * quads);
    const int64_t cell = tile.sample * s.cells + shown_cell(s, m.shown, m.list[row]);
    quad_at(a.dy + cell * s.perception16 + p) = quad_at(m.y + row * s.perception_row + p);
  }
}

// Which places are those of cells that took part, before the list is of all cells.
NCAFAST_DEVICE void note_active(const Shape& s, const NormMemory& m) {
  const int active = m.count[0], still = m.count[1];
  for (int i = static_cast<int>(threadIdx.x); i < active + still; i += norm_threads)
    m.active[m.list[i < active ? i : s.box_cells - 1 - (i - active)]] = i < active;
}

template <Precision precision, int most_p8>
__global__ void __launch_bounds__(norm_threads, most_p8 > 6 ? 1 : 3)
    batch_norm_backward(const __grid_constant__ BatchNormBackward a) {
  using P = Product<precision>;
  const Shape& s = a.shape;
  Arena arena(shared_memory<unsigned char>());
  const NormMemory m(s, a.border != nullptr, arena);
  clear_padding(s, (s.box_cells + 15) / 16 * 16, m.y);
  load_array(m.filters, a.weights.filters, s.taps * s.filters * s.channels4);
  load_array(m.filter_bias, a.weights.filter_bias, s.filters * s.channels4);
  grid_dependency_wait();
  grid_dependency_release();  // after the wait: what starts then may take for done all that this kernel waited for
  load_array(m.matrix, a.matrix, s.perception16 * s.perception_row);
  load_array(m.offset, a.offset, s.perception16);
  const Sight sight{m.tile, m.filters, m.filter_bias, a.weights.centre, a.extra};
  const int warp = static_cast<int>(threadIdx.x) / 32;
  over_own_tiles(s, m.shown, [&](const Tile& tile, int64_t number, bool follows) {
    load_next_tile(s, a.x, tile, m.shown, follows, m.tile);
    if (a.border) clear_pushed(s, m.pushed);
    list_active(s, a.activity, tile, m.list, m.marks, m.count);
    note_active(s, m);
    list_all(s, tile, m.list, m.marks, m.count);
    copy_async_wait();
    __syncthreads();
    const int count = m.count[0];
    see<P, 2>(s, sight, tile, m.list, count, m.y);
    __syncthreads();
    for (int first = 16 * warp; first < count; first += 16 * (norm_threads / 32))
      complete_rows<precision, most_p8>(a, m, tile, first, count);
    __syncthreads();
    if (a.extra_back.values) add_extra_rows(a, m, tile, count);
    if (a.filter_slabs) add_filters(s, tile, m.y, m.tile, a.filter_slabs);
    if (!a.border) return write_rows(a, m, tile, count);
    for (int first = 0; first < count; first += 32)
      push(s, m.list + first, count - first < 32 ? count - first : 32, m.y + first * s.perception_row, m.filters,
           m.pushed);
    __syncthreads();
    write_pushed(s, tile, number, m.pushed, a.activity.wanted, a.dx, a.border);
  });
}

}  // namespace ncafast::cuda
