// Steps forward (K1). Blocks stay on their multiprocessor and go from tile to tile: weights come to shared memory
// once. A warp takes 32 active cells through both layers; the hidden layer passes from the first product's sums to the
// second's operand in registers.
//
// One launch does one step, or all steps of a rollout whose tiles are on the device at once (K5): then blocks keep
// their weights and meet between steps.
#pragma once

#include "activation.cuh"
#include "active.cuh"
#include "arena.h"
#include "perception.cuh"
#include "products.cuh"
#include "turns.h"

namespace ncafast::cuda {

constexpr int step_threads = 128;  // at most; half as many where the arrays of wide shapes want the room

struct Step {
  Shape shape;
  States<const float> from;
  States<float> to;
  Activity activity;
  Weights weights;
  Extra<const float> extra;
  bool weights_ready;  // no kernel that may still run writes them
  // Of a launch that does them all; `from`, `to`, activity and extra are then those of the first step.
  int64_t steps;
  Turns turns;
  int64_t mask_step;
};

// Shared memory of a block.
struct StepMemory {
  float *tile, *y, *first, *update, *filters, *filter_bias;
  uint16_t* list;
  uint8_t* active;
  int* count;

  NCAFAST_HOST_DEVICE StepMemory(const Shape& s, int threads, Arena& arena) {
    tile = arena.take<float>(int64_t{s.halo_cells} * s.channels4);
    y = arena.take<float>(int64_t{threads} * s.perception_row);
    first = arena.take<float>(int64_t{s.hidden32} * s.perception_row);
    update = arena.take<float>(int64_t{s.channels8} * s.hidden_row);
    filters = arena.take<float>(int64_t{s.taps} * s.filters * s.channels4);
    filter_bias = arena.take<float>(int64_t{s.filters} * s.channels4);
    list = arena.take<uint16_t>(s.box_cells);
    active = arena.take<uint8_t>(s.box_cells);
    count = arena.take<int>(1);
  }
};

// The update d [2][channels / 8][4] of 32 cells, rows of y.
template <Precision precision, int blocks8>
NCAFAST_DEVICE void mlp(const Shape& s, const float* y, const float* first, const float* first_bias,
                        const float* update, const float* update_bias, float (&d)[2][blocks8][4]) {
  using P = Product<precision>;
  const int t = lane_t();
#pragma unroll
  for (int n = 0; n < blocks8; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) d[0][n][i] = d[1][n][i] = update_bias[8 * n + 2 * t + i % 2];
#pragma unroll 1
  for (int h = 0; h < s.hidden32; h += 32) {
    float z[2][4][4];
#pragma unroll
    for (int n = 0; n < 4; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) z[0][n][i] = z[1][n][i] = first_bias[h + 8 * n + 2 * t + i % 2];
#pragma unroll 2
    for (int k = 0; k < s.perception16; k += P::k) {
      typename P::Left a[2];
#pragma unroll
      for (int m = 0; m < 2; ++m)
        a[m] = P::template left<Order::natural>(ByRow{y + 16 * m * s.perception_row + k, s.perception_row});
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const auto b =
            P::template right<Order::natural>(ByRow{first + (h + 8 * n) * s.perception_row + k, s.perception_row});
        P::add(z[0][n], a[0], b);
        P::add(z[1][n], a[1], b);
      }
    }
    activate<4>(s, z[0]);
    activate<4>(s, z[1]);
#pragma unroll
    for (int k = 0; k < 32; k += P::k) {
      typename P::Left a[2];
#pragma unroll
      for (int m = 0; m < 2; ++m) a[m] = P::chained(z[m] + k / 8);
#pragma unroll
      for (int n = 0; n < blocks8; ++n) {
        const auto b = P::template right<Order::paired>(ByRow{update + 8 * n * s.hidden_row + h + k, s.hidden_row});
        P::add(d[0][n], a[0], b);
        P::add(d[1][n], a[1], b);
      }
    }
  }
}

// Writes x + scale d of 32 rows, from `row` of the list on.
template <int blocks8>
NCAFAST_DEVICE void write_moved(const Shape& s, const States<float>& to, const Tile& tile, const float* x,
                                const uint16_t* list, int row, int count, const float (&d)[2][blocks8][4]) {
  const int g = lane_g(), t = lane_t();
#pragma unroll
  for (int m = 0; m < 2; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int r = row + 16 * m + 8 * half + g;
      if (r >= count) continue;
      const BoxCell at = box_cell(s, tile, list[r]);
      const float* own = x + at.halo_place * s.channels4;
      float* out = to.values + tile.sample * to.sample + at.cell * to.cell;
#pragma unroll
      for (int n = 0; n < blocks8; ++n) {
        const int c = 8 * n + 2 * t;
        float value[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const float old = c + i < s.channels ? own[c + i] : 0.0f;
          value[i] = moves(s, c + i) ? old + s.scale * d[m][n][2 * half + i] : old;
        }
        if (to.aligned) {
          if (c < s.channels) *reinterpret_cast<float2*>(out + c) = make_float2(value[0], value[1]);
        } else {
#pragma unroll
          for (int i = 0; i < 2; ++i)
            if (c + i < s.channels) out[(c + i) * to.channel] = value[i];
        }
      }
    }
}

// Copies the cells that do not take part.
NCAFAST_DEVICE void write_still(const Shape& s, const States<float>& to, const Tile& tile, const float* x,
                                const uint8_t* active) {
  float* const out = to.values + tile.sample * to.sample;
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x), quads = s.channels4 / 4;
  if (to.aligned) {
    for (int i = thread; i < s.box_cells * quads; i += threads) {
      const int place = i / quads, c = 4 * (i - place * quads);
      if (active[place]) continue;
      const BoxCell at = box_cell(s, tile, place);
      if (at.cell >= 0)
        *reinterpret_cast<float4*>(out + at.cell * to.cell + c) = quad_at(x + at.halo_place * s.channels4 + c);
    }
    return;
  }
  for (int place = thread; place < s.box_cells; place += threads) {
    if (active[place]) continue;
    const BoxCell at = box_cell(s, tile, place);
    if (at.cell < 0) continue;
    for (int c = 0; c < s.channels; ++c) out[at.cell * to.cell + c * to.channel] = x[at.halo_place * s.channels4 + c];
  }
}

// All tiles of this block.
template <Precision precision, int blocks8>
NCAFAST_DEVICE void step_tiles(const Shape& s, const StepMemory& m, const Sight& sight, const Weights& weights,
                               const Activity& activity, const States<const float>& from, const States<float>& to) {
  using P = Product<precision>;
  const int rows = static_cast<int>(blockDim.x);  // of a pass: 32 of each warp
  over_own_tiles(s, [&](const Tile& tile, int64_t, bool follows) {
    load_next_tile(s, from, tile, follows, m.tile);
    list_active(s, activity, tile, m.list, m.active, m.count);
    copy_async_wait();
    __syncthreads();
    write_still(s, to, tile, m.tile, m.active);
    const int count = *m.count;
    for (int first = 0; first < count; first += rows) {
      if (first > 0) __syncthreads();  // all are done with y
      see<P, 4>(s, sight, tile, m.list + first, count - first < rows ? count - first : rows, m.y);
      __syncthreads();
      const int row = static_cast<int>(threadIdx.x) / 32 * warp_rows;
      if (first + row >= count) continue;
      float d[2][blocks8][4];
      mlp<precision, blocks8>(s, m.y + row * s.perception_row, m.first, weights.first_bias, m.update,
                              weights.update_bias, d);
      write_moved<blocks8>(s, to, tile, m.tile, m.list, first + row, count, d);
    }
  });
}

template <Precision precision, int blocks8>
__global__ void __launch_bounds__(step_threads, precision == Precision::ieee || blocks8 > 2 ? 2 : 3)
    step_kernel(const __grid_constant__ Step a) {
  const Shape& s = a.shape;
  Arena arena(shared_memory<unsigned char>());
  const StepMemory m(s, static_cast<int>(blockDim.x), arena);
  clear_padding(s, static_cast<int>(blockDim.x), m.y);
  if (!a.weights_ready) grid_dependency_wait();
  load_array(m.first, a.weights.first, s.hidden32 * s.perception_row);
  load_array(m.update, a.weights.update, s.channels8 * s.hidden_row);
  load_array(m.filters, a.weights.filters, s.taps * s.filters * s.channels4);
  load_array(m.filter_bias, a.weights.filter_bias, s.filters * s.channels4);
  grid_dependency_wait();
  grid_dependency_release();  // after the wait: what starts then may take for done all that this kernel waited for
  Sight sight{m.tile, m.filters, m.filter_bias, a.weights.centre, a.extra};
  Activity activity = a.activity;
  States<const float> from = a.from;
  States<float> to = a.to;
#pragma unroll 1
  for (int64_t t = 0;;) {
    step_tiles<precision, blocks8>(s, m, sight, a.weights, activity, from, to);
    if (++t >= a.steps) break;
    grid_sync();
    ++activity.step;
    if (activity.mask) activity.mask += a.mask_step;
    if (sight.extra.values) sight.extra.values += sight.extra.step_stride;
    from = a.turns.before(s, t);
    to = a.turns.after(s, t + 1);
  }
}

}  // namespace ncafast::cuda
