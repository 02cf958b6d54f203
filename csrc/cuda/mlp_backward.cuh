// One step backward through the MLP (K2a): dL/dy of the cells that took part, and the gradients of the layers. dL/dy
// goes to memory, for kernels that come after; where only the states' gradient wants it, it stays here, see pushed.cuh.
//
// A warp owns 16 or 32 hidden units, for all cells of all tiles of its block: the sums of dW1 and dW2 that belong to
// them stay in its registers. The hidden layer is computed transposed, units by cells, so that a warp's sums are the
// left operands of these gradients as they are; only dz goes through shared memory, since dy sums over all units.
#pragma once

#include "activation.cuh"
#include "active.cuh"
#include "arena.h"
#include "norm_back.cuh"
#include "perception.cuh"
#include "products.cuh"
#include "pushed.cuh"
#include "slab.h"

namespace ncafast::cuda {

constexpr int mlp_rows = 32;  // cells of a pass

struct MlpBackward {
  Shape shape;
  States<const float> x, g;  // the state, dL/d(next state) with channels last
  Activity activity;
  Weights weights;
  Extra<const float> extra;
  float* dy;           // [B, *S, perception16] written, 0 where a cell took no part, or under batch norm left alone
                       // there; null where it stays on the chip:
  float* dx;           // then dL/dx is written, to where g is,
  Border border;       // and what it lacks. What the step before left there is added to dx first
  Folding folding;     // under batch norm,
  NormBack norm;       // and what it needs of this step
  float* slabs;        // of each block, added to
  bool weights_ready;  // no kernel that may still run writes them
};

struct MlpMemory {
  float *tile, *y, *du, *dz, *first, *first_bias, *update, *filters, *filter_bias, *pushed;
  int* shown;
  uint16_t* list;
  uint8_t* active;
  int* count;

  NCAFAST_HOST_DEVICE MlpMemory(const Shape& s, bool pushes, Arena& arena) {
    tile = arena.take<float>(int64_t{s.halo_cells} * s.channels4);
    y = arena.take<float>(int64_t{mlp_rows} * s.perception_row);
    du = arena.take<float>(int64_t{mlp_rows} * (s.channels8 + 4));
    dz = arena.take<float>(int64_t{mlp_rows} * (s.hidden32 + 4));
    first = arena.take<float>(int64_t{s.hidden32} * s.perception_row);
    first_bias = arena.take<float>(2 * s.hidden32);
    update = arena.take<float>(int64_t{s.hidden32} * (s.channels8 + 4));
    filters = arena.take<float>(int64_t{s.taps} * s.filters * s.channels4);
    filter_bias = arena.take<float>(int64_t{s.filters} * s.channels4);
    pushed = arena.take<float>(pushes ? int64_t{s.halo_cells} * pushed_row(s) : 0);
    shown = arena.take<int>(shown_parts(s));
    list = arena.take<uint16_t>(s.box_cells);
    active = arena.take<uint8_t>(s.box_cells);
    count = arena.take<int>(2);
  }
};

// Starts the copies of W2, transposed to [hidden32, channels8 + 4], and of the first bias as 16 units' sums begin with
// it: four of a lane, of units g and g + 8 twice each.
NCAFAST_DEVICE void load_layers(const Shape& s, const MlpMemory& m, const Weights& weights) {
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  for (int c = thread / 32; c < s.channels8; c += threads / 32)
    for (int h = thread % 32; h < s.hidden32; h += 32)
      copy_async<4>(m.update + h * (s.channels8 + 4) + c, weights.update + c * s.hidden_row + h);
  for (int i = thread; i < 2 * s.hidden32; i += threads)
    copy_async<4>(m.first_bias + i, weights.first_bias + i / 32 * 16 + i % 32 / 4 + i % 4 / 2 * 8);
}

// dL/d(update) [mlp_rows, channels8 + 4] of the listed cells, rows past them 0. Adds this thread's share of its
// channels' sums, which are those of quad threadIdx.x % (channels8 / 4): a block's threads are a multiple of those.
template <class P>
NCAFAST_DEVICE void gather_update(const MlpBackward& a, const Tile& tile, const int* shown, const uint16_t* list,
                                  int rows, float* du, float4& sum) {
  const Shape& s = a.shape;
  const int thread = static_cast<int>(threadIdx.x), shift = s.channels8 == 16 ? 2 : 3;
  const int c = 4 * (thread & ((1 << shift) - 1));
  const float* g = a.g.values + tile.sample * a.g.sample;
#pragma unroll 1
  for (int row = thread >> shift; row < mlp_rows; row += static_cast<int>(blockDim.x) >> shift) {
    float4 value = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (row < rows && c < s.channels) {
      const float4 given = channels_at(s, g + elements(shown_cell(s, shown, list[row]), s.channels), c);
      if (touched(s, c)) value.x = s.scale * given.x;
      if (touched(s, c + 1)) value.y = s.scale * given.y;
      if (touched(s, c + 2)) value.z = s.scale * given.z;
      if (touched(s, c + 3)) value.w = s.scale * given.w;
    }
    sum = add4(sum, value);
    store_shared(du + row * (s.channels8 + 4) + c, operand4<P>(value));
  }
}

// What a warp gathers over the cells of all tiles, for its 16 `units16` hidden units: sums of 16 columns by 8 units,
// whose rows g and g + 8 are columns 2g and 2g + 1 as in left_by_two.
template <int units16, int most_p8, int blocks8>
struct LayerSums {
  static constexpr int units8 = 2 * units16, most_p16 = most_p8 / 2, blocks16 = blocks8 / 2;
  float first[most_p16][units8][4] = {}, update[blocks16][units8][4] = {};
  float bias[units16][2] = {};  // of rows g and g + 8 of 16 units, this lane's cells

  // 16 cells from a row of y and du on, by the warp's units from `unit` on. Their dz goes to rows of m.dz.
  template <Precision precision>
  NCAFAST_DEVICE void add(const Shape& s, const MlpMemory& m, int cell, int unit) {
    using P = Product<precision>;
    const int g = lane_g(), t = lane_t(), du_row = s.channels8 + 4, dz_row = s.hidden32 + 4;
    const float *y = m.y + cell * s.perception_row, *du = m.du + cell * du_row;
    float* const dz_out = m.dz + (cell + 2 * t) * dz_row + unit + g;
    float z[units16][2][4], dz[units16][2][4] = {};
#pragma unroll
    for (int u = 0; u < units16; ++u)
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        const float4 bias = quad_at(m.first_bias + 2 * (unit + 16 * u) + 4 * g);
        z[u][n][0] = bias.x, z[u][n][1] = bias.y, z[u][n][2] = bias.z, z[u][n][3] = bias.w;
      }
    add_terms<P, most_p16>(z, m.first + unit * s.perception_row, y, s.perception_row, s.perception16);
    add_terms<P, blocks16>(dz, m.update + unit * du_row, du, du_row, s.channels8);
#pragma unroll
    for (int u = 0; u < units16; ++u) {
      through_activation<2>(s, z[u], dz[u]);
      activate_rounded<P, 2>(s, z[u]);
#pragma unroll
      for (int n = 0; n < 2; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) bias[u][i / 2] += dz[u][n][i];
        P::make_operands(dz[u][n]);
#pragma unroll
        for (int i = 0; i < 4; ++i) dz_out[(8 * n + i % 2) * dz_row + 16 * u + i / 2 * 8] = dz[u][n][i];
      }
    }
#pragma unroll
    for (int k = 0; k < 16; k += P::k) {
      typename P::Right value[units16][2], delta[units16][2];
#pragma unroll
      for (int u = 0; u < units16; ++u) {
        P::chained_rights(z[u] + k / 8, value[u]);
        P::chained_rights(dz[u] + k / 8, delta[u]);
      }
      add_columns<P>(update, du + k * du_row, du_row, s.channels8, value);
      add_columns<P>(first, y + k * s.perception_row, s.perception_row, s.perception16, delta);
    }
  }

  // Sums of the warp's units by 16 rows, of at most 16 `most16` terms. There are at least 16.
  template <class P, int most16>
  NCAFAST_DEVICE static void add_terms(float (&sums)[units16][2][4], const float* weights, const float* rows, int row,
                                       int terms) {
    const Walk<P, false> seen(ByRow{rows, row});
#pragma unroll
    for (int k = 0; k < 16 * most16; k += P::k) {
      if (k >= 16 && k / 16 * 16 >= terms) continue;
      typename P::Right b[2];
      seen.rights(k, b);
#pragma unroll
      for (int u = 0; u < units16; ++u) {
        const auto w = Walk<P, true>(ByRow{weights + 16 * u * row, row}).left(k);
#pragma unroll
        for (int n = 0; n < 2; ++n) P::add(sums[u][n], w, b[n]);
      }
    }
  }

  // Sums of columns by the warp's units, of P::k rows.
  template <class P, int most16>
  NCAFAST_DEVICE static void add_columns(float (&sums)[most16][units8][4], const float* rows, int row, int columns,
                                         const typename P::Right (&units)[units16][2]) {
#pragma unroll
    for (int j = 0; j < most16; ++j) {
      if (j > 0 && 16 * j >= columns) continue;
      const auto left = left_by_two<P>(rows + 16 * j, row);
#pragma unroll
      for (int n = 0; n < units8; ++n) P::add(sums[j][n], left, units[n / 2][n % 2]);
    }
  }

  // This block's part of a step's dgamma and dbeta, see norm_part; then the sums get the factor that W1 has.
  NCAFAST_DEVICE void through_fold(const Shape& s, const Folding& f, int unit, float* part) {
    const int g = lane_g(), t = lane_t();
#pragma unroll
    for (int n = 0; n < units8; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int h = unit + 8 * n + 2 * t + i;
        const bool there = h < s.hidden;
        const float* weight = f.layer.weight + (there ? h : 0) * s.perception;
        const float scale = there ? fold_scale(f, h) : 0.0f;
        float rows = 0.0f;
#pragma unroll
        for (int j = 0; j < most_p16; ++j)
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            float& value = first[j][n][2 * half + i];
            const int p = 16 * j + 2 * g + half;
            if (p < s.perception) rows = fmaf(weight[p], value, rows);
            value *= scale;
          }
#pragma unroll
        for (int far = 4; far < 32; far *= 2) rows += __shfl_xor_sync(0xffffffffu, rows, far);
        if (g == 0) part[h] = there ? rows : 0.0f;
      }
    each_bias(unit, [&](int h, float sum) { part[s.hidden32 + h] = sum; });
  }

  // To the block's slab, which this warp's units have to themselves.
  NCAFAST_DEVICE void store(const Shape& s, float* slab, int unit) {
    const Slab at(s);
    const int g = lane_g(), t = lane_t();
#pragma unroll
    for (int n = 0; n < units8; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int h = unit + 8 * n + 2 * t + i;
        const auto add_pair = [&](float* row, const float (&sum)[4]) {
          float2& there = *reinterpret_cast<float2*>(row + 2 * g);
          there = make_float2(there.x + sum[i], there.y + sum[2 + i]);
        };
#pragma unroll
        for (int j = 0; j < most_p16; ++j)
          if (16 * j < s.perception16) add_pair(slab + at.first + h * s.perception16 + 16 * j, first[j][n]);
#pragma unroll
        for (int j = 0; j < blocks16; ++j)
          if (16 * j < s.channels8) add_pair(slab + at.update + h * s.channels8 + 16 * j, update[j][n]);
      }
    each_bias(unit, [&](int h, float sum) { slab[at.first_bias + h] += sum; });
  }

  // Calls work(hidden unit, sum of dz over its cells) in one lane for each of the warp's units.
  template <class Work>
  NCAFAST_DEVICE void each_bias(int unit, Work work) {
#pragma unroll
    for (int u = 0; u < units16; ++u)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float sum = bias[u][half];
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        if (lane_t() == 0) work(unit + 16 * u + 8 * half + lane_g(), sum);
      }
  }
};

// dL/dy of a tile's sample; null where it stays on the chip.
NCAFAST_DEVICE float* dy_of(const MlpBackward& a, const Tile& tile) {
  return a.dy ? a.dy + tile.sample * a.shape.cells * a.shape.perception16 : nullptr;
}

// Rows of dL/dy = dz W1, to memory or else to `kept` [mlp_rows, perception_row]; a warp takes every so many-th block of
// 16 columns, of all rows.
template <Precision precision>
NCAFAST_DEVICE void write_dy(const MlpBackward& a, const Tile& tile, const int* shown, const uint16_t* list, int rows,
                             const float* dz, const float* first, float* kept) {
  using P = Product<precision>;
  const Shape& s = a.shape;
  const int g = lane_g(), t = lane_t(), dz_row = s.hidden32 + 4;
  const int warp = static_cast<int>(threadIdx.x) / 32, warps = static_cast<int>(blockDim.x) / 32;
  float* const dy = dy_of(a, tile);
  for (int column = 16 * warp; column < s.perception16; column += 16 * warps) {
    float sum[mlp_rows / 16][2][4] = {};
    const Walk<P, true> delta[2] = {Walk<P, true>(ByRow{dz, dz_row}), Walk<P, true>(ByRow{dz + 16 * dz_row, dz_row})};
    static_assert(mlp_rows == 32, "two left operands");
    const float* weights = first + column;
    int k32 = 0;
#pragma unroll 1
    do {
#pragma unroll
      for (int k = k32; k < k32 + 32; k += P::k, weights += P::k * s.perception_row) {
        typename P::Right weight[2];
#pragma unroll
        for (int n = 0; n < 2; ++n)
          weight[n] = P::template right<Order::natural>(ByTerm{weights + 8 * n, s.perception_row});
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          const auto left = delta[m].left(k);
#pragma unroll
          for (int n = 0; n < 2; ++n) P::add(sum[m][n], left, weight[n]);
        }
      }
    } while ((k32 += 32) < s.hidden32);
    const int p = column + 2 * t;
#pragma unroll
    for (int m = 0; m < mlp_rows / 16; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = 16 * m + 8 * half + g;
        if (row >= rows) continue;
        if (dy) {
          float* const to = dy + elements(shown_cell(s, shown, list[row]), s.perception16) + p;
#pragma unroll
          for (int n = 0; n < 2; ++n)
            *reinterpret_cast<float2*>(to + 8 * n) = make_float2(sum[m][n][2 * half], sum[m][n][2 * half + 1]);
        } else {  // columns past the perception stay 0
          float* const to = kept + row * s.perception_row + p;
#pragma unroll
          for (int n = 0; n < 2; ++n)
#pragma unroll
            for (int i = 0; i < 2; ++i)
              if (p + 8 * n + i < s.perception) to[8 * n + i] = sum[m][n][2 * half + i];
        }
      }
  }
}

// Zeros for the cells that take no part. The four lanes of a group have a cell each.
NCAFAST_DEVICE void clear_still(const MlpBackward& a, const Tile& tile, const int* shown, const uint16_t* list,
                                int count) {
  const Shape& s = a.shape;
  const int lane = static_cast<int>(threadIdx.x) % 4;
  float* const dy = dy_of(a, tile);
  for (int i = static_cast<int>(threadIdx.x) / 4; i < count; i += static_cast<int>(blockDim.x) / 4) {
    float* const to = dy + elements(shown_cell(s, shown, list[s.box_cells - 1 - i]), s.perception16);
#pragma unroll 1
    for (int p = 4 * lane; p < s.perception16; p += 16) quad_at(to + p) = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  }
}

// `wide` is for perceptions of more than 48 columns or more than 16 channels. A warp has 32 units, of wide shapes 16.
template <bool wide>
constexpr int units16 = wide ? 1 : 2;
template <bool wide>
constexpr int mlp_threads = most_hidden / 16 / units16<wide> * 32;

template <Precision precision, bool wide>
__global__ void __launch_bounds__(mlp_threads<wide>, wide ? 1 : 2) mlp_backward(const __grid_constant__ MlpBackward a) {
  using P = Product<precision>;
  const Shape& s = a.shape;
  Arena arena(shared_memory<unsigned char>());
  const bool pushes = !a.dy;
  const MlpMemory m(s, pushes, arena);
  clear_padding(s, mlp_rows, m.y);
  if (!a.weights_ready) grid_dependency_wait();
  if (s.centred)
    load_plain_first(s, a.folding.layer.weight, m.first);
  else
    load_array(m.first, a.weights.first, s.hidden32 * s.perception_row);
  load_layers(s, m, a.weights);
  load_array(m.filters, a.weights.filters, s.taps * s.filters * s.channels4);
  load_array(m.filter_bias, a.weights.filter_bias, s.filters * s.channels4);
  copy_async_commit();
  if (s.centred) {  // by what the tape holds, which no kernel of this rollout writes
    copy_async_wait();
    __syncthreads();
    fold_first(s, a.folding, m.first);
  }
  grid_dependency_wait();
  grid_dependency_release();  // after the wait: what starts then may take for done all that this kernel waited for
  const Sight sight{m.tile, m.filters, m.filter_bias, a.weights.centre, a.extra};
  const int unit = static_cast<int>(threadIdx.x) / 32 * 16 * units16<wide>;
  LayerSums<units16<wide>, wide ? most_perception / 8 : 6, wide ? 4 : 2> sums;
  float4 update_bias = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  over_own_tiles(s, m.shown, [&](const Tile& tile, int64_t number, bool follows) {
    load_next_tile(s, a.x, tile, m.shown, follows, m.tile);
    if (pushes) clear_pushed(s, m.pushed);
    if (a.border.from) collect(s, tile, a.border.from, a.dx);
    list_active(s, a.activity, tile, m.list, m.active, m.count);
    if (!pushes && !s.centred) clear_still(a, tile, m.shown, m.list, m.count[1]);
    copy_async_wait();
    __syncthreads();
    const int count = m.count[0];
    for (int first = 0; first < count; first += mlp_rows) {
      const uint16_t* list = m.list + first;
      const int rows = count - first < mlp_rows ? count - first : mlp_rows;
      see<P, 1>(s, sight, tile, list, rows, m.y);
      clear_rows(s, rows, mlp_rows, m.y);
      gather_update<P>(a, tile, m.shown, list, rows, m.du, update_bias);
      __syncthreads();  // and all are done with the dz before
#pragma unroll 1
      for (int cell = 0; cell < mlp_rows; cell += 16) sums.template add<precision>(s, m, cell, unit);
      __syncthreads();
      write_dy<precision>(a, tile, m.shown, list, rows, m.dz, m.first, m.y);
      if (!pushes) continue;
      __syncthreads();
      push(s, list, rows, m.y, m.filters, m.pushed);
      __syncthreads();
    }
    if (pushes) write_pushed(s, tile, number, m.pushed, a.activity.wanted, a.dx, a.border.to);
  });
  float* slab = a.slabs + static_cast<int64_t>(blockIdx.x) * Slab(s).count;
  if (s.centred) {
    const int part = norm_part(s);
    sums.through_fold(s, a.folding, unit, a.norm.tree.parts + static_cast<int64_t>(blockIdx.x) * part);
    if (add_blocks(a.norm.tree, part)) finish_norm<precision>(s, a.folding, a.norm, m.first, m.dz);
  }
  sums.store(s, slab, unit);
  __syncthreads();
  quad_at(m.y + 4 * threadIdx.x) = update_bias;
  __syncthreads();
  for (int c = static_cast<int>(threadIdx.x); c < s.channels8; c += static_cast<int>(blockDim.x)) {
    float sum = slab[Slab(s).update_bias + c];
    for (int i = c; i < 4 * static_cast<int>(blockDim.x); i += s.channels8) sum += m.y[i];
    slab[Slab(s).update_bias + c] = sum;
  }
}

}  // namespace ncafast::cuda
