// The transposed perception from dL/dy in memory (K2b): gathers dL/dx, so that every cell is written once.
#pragma once

#include "half.cuh"
#include "life.cuh"
#include "perception.cuh"

namespace ncafast::cuda {

// `From` and `To`: pointers, or what stored.cuh makes of them.
template <class From, class To>
struct PerceptionBackward {
  Shape shape;
  const float* dy;       // [B, *S, perception16]
  const float* filters;  // [taps, F, channels4]
  const float* dense;    // [B, *S, C] what comes through a dense convolution, null where there is none
  From g;                // [B, *S, C] dL/d(next state)
  const uint8_t* lives;  // [B, *S], null without an alive mask
  To dx;                 // [B, *S, C] written
};

constexpr int source_threads = 256;

// Calls look(place) for every place along an axis, those past its edges too, where the padding shows cell n.
template <class Look>
NCAFAST_DEVICE void over_places(const Shape& s, int axis, int n, Look look) {
  look(n);
  if (s.padding == Padding::zeros) return;
  const int size = s.size[axis];
  for (int past = 1; past <= s.radius[axis]; ++past) {
    if (along(-past, size, s.padding) == n) look(-past);
    if (along(size - 1 + past, size, s.padding) == n) look(size - 1 + past);
  }
}

// Calls look(cell, tap) along an axis for every cell that sees a place, through that tap.
template <class Look>
NCAFAST_DEVICE void over_seers(const Shape& s, int axis, int place, Look look) {
  for (int tap = 0; tap < s.kernel[axis]; ++tap) {
    const int cell = place + s.radius[axis] - tap;
    if (cell >= 0 && cell < s.size[axis]) look(cell, tap);
  }
}

// A thread has four channels of a cell.
template <class From, class To>
__global__ void __launch_bounds__(source_threads)
    perception_backward(const __grid_constant__ PerceptionBackward<From, To> a) {
  grid_dependency_wait();
  const Shape& s = a.shape;
  const int quads = s.channels4 / 4;
  const int64_t number = static_cast<int64_t>(blockIdx.x) * source_threads + threadIdx.x;
  if (number >= s.batch * s.cells * quads) return;
  const int64_t index = number / quads;
  const int c = 4 * static_cast<int>(number - index * quads);
  const Cell cell = cell_at(s, index);
  const bool whole = s.channels % 4 == 0, lives = !a.lives || a.lives[index];
  const float* own = a.dy + index * s.perception16 + c;
  const int64_t at = index * s.channels + c;
  float sum[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const bool there = c + i < s.channels;
    sum[i] = there && (lives || restored(s, c + i)) ? get(a.g, at + i) : 0.0f;
    if (there && s.own > 0) sum[i] += own[i];
    if (there && a.dense) sum[i] += a.dense[at + i];
  }
  const float* lines = a.dy + cell.sample * s.cells * s.perception16 + s.own + c;
  const auto add = [&](int64_t from, int tap) {
    const float* seen = lines + from * s.perception16;
    const float* weights = a.filters + tap * s.filters * s.channels4 + c;
    for (int f = 0; f < s.filters; ++f, seen += s.channels, weights += s.channels4) {
      const float4 w = quad_at(weights);
      float v[4];
      if (whole) {
        const float4 four = quad_at(seen);
        v[0] = four.x, v[1] = four.y, v[2] = four.z, v[3] = four.w;
      } else {
#pragma unroll
        for (int i = 0; i < 4; ++i) v[i] = c + i < s.channels ? seen[i] : 0.0f;
      }
      sum[0] = fmaf(w.x, v[0], sum[0]);
      sum[1] = fmaf(w.y, v[1], sum[1]);
      sum[2] = fmaf(w.z, v[2], sum[2]);
      sum[3] = fmaf(w.w, v[3], sum[3]);
    }
  };
  if (s.filters > 0)
    over_places(s, 0, cell.at[0], [&](int place_z) {
      over_places(s, 1, cell.at[1], [&](int place_y) {
        over_places(s, 2, cell.at[2], [&](int place_x) {
          over_seers(s, 0, place_z, [&](int z, int tap_z) {
            over_seers(s, 1, place_y, [&](int y, int tap_y) {
              const int64_t line = (static_cast<int64_t>(z) * s.size[1] + y) * s.size[2];
              const int tap = (tap_z * s.kernel[1] + tap_y) * s.kernel[2];
              over_seers(s, 2, place_x, [&](int x, int tap_x) { add(line + x, tap + tap_x); });
            });
          });
        });
      });
    });
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (c + i < s.channels) put(a.dx, at + i, sum[i]);
}

struct AddExtra {
  Shape shape;
  const float* dy;
  Extra<float> grad;  // of this step: [B, E, *S], every cell has a place of its own
};

inline __global__ void __launch_bounds__(source_threads) add_extra(const __grid_constant__ AddExtra a) {
  grid_dependency_wait();
  const Shape& s = a.shape;
  const int64_t number = static_cast<int64_t>(blockIdx.x) * source_threads + threadIdx.x;
  if (number >= s.batch * s.cells) return;
  const int64_t sample = number / s.cells, local = number - sample * s.cells;
  const float* from = a.dy + number * s.perception16 + s.perception - s.extra;
  float* to = a.grad.values + sample * a.grad.sample_stride + local;
  for (int e = 0; e < s.extra; ++e) to[e * s.cells] += from[e];
}

}  // namespace ncafast::cuda
