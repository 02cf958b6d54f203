// Steps forward (K1). Blocks stay on their multiprocessor and go from tile to tile: weights come to shared memory
// once. A warp takes 32 active cells through both layers; the hidden layer passes from the first product's sums to the
// second's operand in registers.
//
// One launch does one step, or all steps of a rollout whose tiles are on the device at once (K5): then blocks keep
// their weights, do what batch norm and the alive mask ask before and after a step, and meet in between. on_chip.cuh
// has a third way.
#pragma once

#include "activation.cuh"
#include "active.cuh"
#include "arena.h"
#include "life.cuh"
#include "moments.cuh"
#include "perception.cuh"
#include "products.cuh"
#include "turns.h"

namespace ncafast::cuda {

constexpr int step_threads = 128;  // at most; half as many where the arrays of wide shapes want the room

struct Step {
  Shape shape;
  States<const float> from;
  States<float> to;  // what the step leaves; under an alive mask not yet the state after it
  Activity activity;
  Weights weights;
  Extra<const float> extra;
  Life life;
  Folding folding;     // under batch norm
  bool weights_ready;  // no kernel that may still run writes them
  // Of a launch that does them all; `from`, `to`, activity, extra and lives are then those of the first step.
  int64_t steps;
  Turns turns;
  int64_t mask_step;
  Norming norming;
};

// Where a step finds what its cells see and leaves them: in device memory.
struct InMemory {
  States<float> to;
  const Life& life;

  NCAFAST_DEVICE bool wanted(const Shape& s, const Tile& tile, const BoxCell& cell) const {
    if (!skips_dead(s, life)) return true;
    const uint8_t* before = life.before + tile.sample * s.cells;
    return near_living(s, life, cell.at, [&](const int (&there)[3]) { return before[cell_number(s, there)] != 0; });
  }
  NCAFAST_DEVICE float* place(const Shape&, const Tile& tile, int cell, int) const {
    return to.values + tile.sample * to.sample + elements(cell, to.cell);
  }
  NCAFAST_DEVICE int64_t channel() const { return to.channel; }
  NCAFAST_DEVICE bool aligned() const { return to.aligned; }
};

// Shared memory of a block.
struct StepMemory {
  float *tile, *y, *first, *first_bias, *update, *filters, *filter_bias;
  int* shown;
  uint16_t* list;
  uint8_t* active;
  int* count;

  NCAFAST_HOST_DEVICE StepMemory(const Shape& s, int threads, Arena& arena) {
    tile = arena.take<float>(int64_t{s.halo_cells} * s.channels4);
    y = arena.take<float>(int64_t{threads} * s.perception_row);
    first = arena.take<float>(int64_t{s.hidden32} * s.perception_row);
    first_bias = arena.take<float>(2 * s.hidden32);
    update = arena.take<float>(int64_t{s.channels8} * s.hidden_row);
    filters = arena.take<float>(int64_t{s.taps} * s.filters * s.channels4);
    filter_bias = arena.take<float>(int64_t{s.filters} * s.channels4);
    shown = arena.take<int>(shown_parts(s));
    list = arena.take<uint16_t>(s.box_cells);
    active = arena.take<uint8_t>(s.box_cells);
    count = arena.take<int>(2);
  }
};

// Terms of the first product whose left operands stay in registers for all hidden units, 48 registers of a lane at
// most: so they are read once instead of once for every 32 units. Other instances have no room for them.
template <Precision precision, int blocks8>
constexpr int kept_terms = blocks8 == 2 && (precision == Precision::tf32 || precision == Precision::bf16) ? 48 : 0;

// The update d [2][channels / 8][4] of 32 cells, rows of y. `first_bias` has every pair twice, as sums begin with it.
template <Precision precision, int blocks8>
NCAFAST_DEVICE void mlp(const Shape& s, const float* y, const float* first, const float* first_bias,
                        const float* update, const float* update_bias, float (&d)[2][blocks8][4]) {
  using P = Product<precision>;
  constexpr int kept = kept_terms<precision, blocks8>;
  const int t = lane_t();
#pragma unroll
  for (int n = 0; n < blocks8; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) d[0][n][i] = d[1][n][i] = update_bias[8 * n + 2 * t + i % 2];
  const Walk<P, true> seen[2] = {Walk<P, true>(ByRow{y, s.perception_row}),
                                 Walk<P, true>(ByRow{y + 16 * s.perception_row, s.perception_row})};
  typename P::Left own[kept / P::k + 1][2];
#pragma unroll
  for (int k = 0; k < kept; k += P::k)
    if (k < 16 || k / 16 * 16 < s.perception16) own[k / P::k][0] = seen[0].left(k), own[k / P::k][1] = seen[1].left(k);
  int h = 0;
#pragma unroll 1
  do {
    float z[8][4];  // of rows 0 to 15, then 16 to 31
#pragma unroll
    for (int n = 0; n < 8; ++n) {
      const float4 bias = quad_at(first_bias + 2 * (h + n % 4 * 8) + 4 * t);
      z[n][0] = bias.x, z[n][1] = bias.y, z[n][2] = bias.z, z[n][3] = bias.w;
    }
    const Walk<P, false> weights[2] = {Walk<P, false>(ByRow{first + h * s.perception_row, s.perception_row}),
                                       Walk<P, false>(ByRow{first + (h + 16) * s.perception_row, s.perception_row})};
    const auto add_terms = [&](const typename P::Left(&a)[2], int k) {
#pragma unroll
      for (int n = 0; n < 4; n += 2) {
        typename P::Right b[2];
        weights[n / 2].rights(k, b);
#pragma unroll
        for (int i = 0; i < 2; ++i)
#pragma unroll
          for (int m = 0; m < 2; ++m) P::add(z[4 * m + n + i], a[m], b[i]);
      }
    };
#pragma unroll
    for (int k = 0; k < kept; k += P::k)
      if (k < 16 || k / 16 * 16 < s.perception16) add_terms(own[k / P::k], k);
#pragma unroll 1
    for (int k16 = kept; k16 < s.perception16; k16 += 16)
#pragma unroll
      for (int k = k16; k < k16 + 16; k += P::k) add_terms({seen[0].left(k), seen[1].left(k)}, k);
    activate_rounded<P, 8>(s, z);
#pragma unroll
    for (int k = 0; k < 32; k += P::k) {
      typename P::Left a[2];
#pragma unroll
      for (int m = 0; m < 2; ++m) a[m] = P::template chained<true>(z + 4 * m + k / 8);
#pragma unroll
      for (int n = 0; n < blocks8; ++n) {
        const auto b = P::template right<Order::paired>(ByRow{update + 8 * n * s.hidden_row + h + k, s.hidden_row});
        P::add(d[0][n], a[0], b);
        P::add(d[1][n], a[1], b);
      }
    }
  } while ((h += 32) < s.hidden32);
}

NCAFAST_DEVICE float moved(const Shape& s, int c, float old, float d) { return moves(s, c) ? old + s.scale * d : old; }

// Writes x + scale d of 32 rows, from `row` of the list on.
template <int blocks8, class Where>
NCAFAST_DEVICE void write_moved(const Shape& s, const Where& where, const Tile& tile, const float* x, const int* shown,
                                const uint16_t* list, int row, int count, const float (&d)[2][blocks8][4]) {
  const int g = lane_g(), t = lane_t();
#pragma unroll
  for (int m = 0; m < 2; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int r = row + 16 * m + 8 * half + g;
      if (r >= count) continue;
      const int place = list[r];
      const float* own = x + place * s.channels4;
      float* out = where.place(s, tile, shown_cell(s, shown, place), place);
      if (where.aligned()) {  // channels are a multiple of 4
#pragma unroll
        for (int n = 0; n < blocks8; ++n) {
          const int c = 8 * n + 2 * t;
          if (c >= s.channels) continue;
          const float2 old = *reinterpret_cast<const float2*>(own + c);
          *reinterpret_cast<float2*>(out + c) =
              make_float2(moved(s, c, old.x, d[m][n][2 * half]), moved(s, c + 1, old.y, d[m][n][2 * half + 1]));
        }
      } else {
#pragma unroll
        for (int n = 0; n < blocks8; ++n)
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const int c = 8 * n + 2 * t + i;
            if (c < s.channels) out[c * where.channel()] = moved(s, c, own[c], d[m][n][2 * half + i]);
          }
      }
    }
}

// Copies `count` cells; place_of(number) says where they are among those shown, of which cell_of(place) is the number.
// Where not `all_there`, some have none.
template <bool all_there, class Where, class PlaceOf, class CellOf>
NCAFAST_DEVICE void write_cells(const Shape& s, const Where& where, const Tile& tile, const float* x, int count,
                                PlaceOf place_of, CellOf cell_of) {
  if (where.aligned()) {
    const QuadShare share = share_quads(s);
    for (int number = share.first; number < count; number += share.step) {
      const int place = place_of(number), cell = cell_of(place);
      if (all_there || cell >= 0)
        quad_at(where.place(s, tile, cell, place) + share.channel) = quad_at(x + place * s.channels4 + share.channel);
    }
    return;
  }
  for (int number = static_cast<int>(threadIdx.x); number < count; number += static_cast<int>(blockDim.x)) {
    const int place = place_of(number), cell = cell_of(place);
    if (!all_there && cell < 0) continue;
    float* out = where.place(s, tile, cell, place);
    for (int c = 0; c < s.channels; ++c) out[c * where.channel()] = x[place * s.channels4 + c];
  }
}

// Copies the cells that take no part.
template <class Where>
NCAFAST_DEVICE void write_still(const Shape& s, const Where& where, const Tile& tile, const float* x, const int* shown,
                                const uint16_t* list, int count) {
  write_cells<true>(
      s, where, tile, x, count, [&](int number) { return static_cast<int>(list[s.box_cells - 1 - number]); },
      [&](int place) { return shown_cell(s, shown, place); });
}

// One tile, which is in shared memory or on its way there. All threads are done with what was there before.
template <Precision precision, int blocks8, class Where>
NCAFAST_DEVICE void step_tile(const Shape& s, const StepMemory& m, const Sight& sight, const Weights& weights,
                              const Activity& activity, const Tile& tile, const Where& where) {
  using P = Product<precision>;
  const int rows = static_cast<int>(blockDim.x);  // of a pass: 32 of each warp
  list_active(
      s, activity, tile, [&](const BoxCell& cell) { return where.wanted(s, tile, cell); }, m.list, m.active, m.count);
  copy_async_wait();
  __syncthreads();
  write_still(s, where, tile, sight.tile, m.shown, m.list, m.count[1]);
  const int count = m.count[0];
  for (int first = 0; first < count; first += rows) {
    if (first > 0) __syncthreads();  // all are done with y
    see<P, 4>(s, sight, tile, m.list + first, count - first < rows ? count - first : rows, m.y);
    __syncthreads();
    const int row = static_cast<int>(threadIdx.x) / 32 * warp_rows;
    if (first + row >= count) continue;
    float d[2][blocks8][4];
    mlp<precision, blocks8>(s, m.y + row * s.perception_row, m.first, m.first_bias, m.update, weights.update_bias, d);
    write_moved<blocks8>(s, where, tile, sight.tile, m.shown, m.list, first + row, count, d);
  }
}

// What all steps read again and again; the caller waits for the copies.
NCAFAST_DEVICE void load_weights(const Shape& s, const StepMemory& m, const Weights& weights) {
  for (int h = 2 * static_cast<int>(threadIdx.x); h < s.hidden32; h += 2 * static_cast<int>(blockDim.x)) {
    copy_async<8>(m.first_bias + 2 * h, weights.first_bias + h);
    copy_async<8>(m.first_bias + 2 * h + 2, weights.first_bias + h);
  }
  load_array(m.update, weights.update, s.channels8 * s.hidden_row);
  load_array(m.filters, weights.filters, s.taps * s.filters * s.channels4);
  load_array(m.filter_bias, weights.filter_bias, s.filters * s.channels4);
}

// To the next step's random draw or mask, and extra channels.
NCAFAST_DEVICE void go_on(Activity& activity, int64_t mask_step, Extra<const float>& extra) {
  ++activity.step;
  if (activity.mask) activity.mask += mask_step;
  if (extra.values) extra.values += extra.step_stride;
}

NCAFAST_DEVICE void load_first(const Shape& s, const StepMemory& m, const Weights& weights) {
  load_array(m.first, weights.first, s.hidden32 * s.perception_row);
}

// The same under batch norm, folded by the variances of step t; all threads are done with m.first.
NCAFAST_DEVICE void load_folded(const Step& a, const StepMemory& m, int64_t t) {
  Folding folding = a.folding;
  folding.inverse += t * a.norming.tape_step;
  load_plain_first(a.shape, folding.layer.weight, m.first);
  copy_async_commit();
  copy_async_wait();
  __syncthreads();
  fold_first(a.shape, folding, m.first);
}

// Whether the alive mask is this launch's own business: one that does all steps has it between them.
template <bool norms>
NCAFAST_DEVICE bool settles_here(const Step& a) {
  return (norms || a.steps > 1) && a.shape.settles;
}

// `norms`: a launch of all steps under batch norm, whose tiles are the moments' too. One block on a multiprocessor,
// since small grids have no more. Two elsewhere: three leave 168 registers a thread, and spills of 24 to 72 bytes
// (sm_80 and sm_90, nvcc 13.0, 2026-11-28).
template <Precision precision, int blocks8, bool norms = false>
__global__ void __launch_bounds__(norms ? moment_threads : step_threads, norms ? 1 : 2)
    step_kernel(const __grid_constant__ Step a) {
  const Shape& s = a.shape;
  Arena arena(shared_memory<unsigned char>());
  const StepMemory m(s, static_cast<int>(blockDim.x), arena);
  clear_padding(s, static_cast<int>(blockDim.x), m.y);
  if (!a.weights_ready) grid_dependency_wait();
  load_weights(s, m, a.weights);
  if (!norms) {
    if (s.centred)
      load_plain_first(s, a.folding.layer.weight, m.first);
    else
      load_first(s, m, a.weights);
  }
  copy_async_commit();
  grid_dependency_wait();
  grid_dependency_release();  // after the wait: what starts then may take for done all that this kernel waited for
  if (!norms && s.centred) {
    copy_async_wait();
    __syncthreads();
    fold_first(s, a.folding, m.first);
  }
  Sight sight{m.tile, m.filters, m.filter_bias, a.weights.centre, a.extra};
  Activity activity = a.activity;
  States<const float> from = a.from;
  InMemory where{a.to, a.life};
#pragma unroll 1
  for (int64_t t = 0;;) {
    if constexpr (norms) {
      norm_step<precision>(s, m, sight, from, a.norming, t);
      load_folded(a, m, t);
    }
    if (settles_here<norms>(a) && skips_dead(s, a.life)) {
      mark_living(s, a.life, from);
      grid_sync();
    }
    over_own_tiles(s, m.shown, [&](const Tile& tile, int64_t, bool follows) {
      load_next_tile(s, from, tile, m.shown, follows, m.tile);
      step_tile<precision, blocks8>(s, m, sight, a.weights, activity, tile, where);
    });
    if (settles_here<norms>(a)) {
      grid_sync();
      settle_all(s, a.life, from, read_only(a.to), a.turns.after(s, t + 1), a.life.lives + t * a.life.lives_step);
    }
    if (++t >= a.steps) break;
    grid_sync();
    go_on(activity, a.mask_step, sight.extra);
    from = a.turns.before(s, t);
    if (!settles_here<norms>(a)) where.to = a.turns.after(s, t + 1);
  }
}

}  // namespace ncafast::cuda
