// States whose type is known when a kernel is launched, not when it is compiled: a kernel with many products has them
// once, and code for every type only where it loads and stores. All threads take the same branch.
#pragma once

#include <type_traits>

#include "half.cuh"
#include "perception.cuh"

namespace ncafast::cuda {

// States<T> of whatever T. `V`: void, or const void where they are only read.
template <class V>
struct Stored {
  States<V> states;
  StateType type;
};

template <class T>
constexpr StateType type_of = StateType::float32;
template <>
constexpr StateType type_of<Float16> = StateType::float16;
template <>
constexpr StateType type_of<Bfloat16> = StateType::bfloat16;

template <class T>
auto stored(const States<T>& s) {
  using V = std::conditional_t<std::is_const_v<T>, const void, void>;
  return Stored<V>{{s.values, s.sample, s.cell, s.channel, s.aligned}, type_of<std::remove_const_t<T>>};
}

template <class T>
NCAFAST_DEVICE States<const T> typed(const States<const void>& s) {
  return {static_cast<const T*>(s.values), s.sample, s.cell, s.channel, s.aligned};
}
template <class T>
NCAFAST_DEVICE States<T> typed(const States<void>& s) {
  return {static_cast<T*>(s.values), s.sample, s.cell, s.channel, s.aligned};
}

// Calls work(the states with their type).
template <class V, class Work>
NCAFAST_DEVICE void with_type(const Stored<V>& s, Work work) {
  switch (s.type) {
    case StateType::float32:
      return work(typed<float>(s.states));
    case StateType::float16:
      return work(typed<Float16>(s.states));
    case StateType::bfloat16:
      return work(typed<Bfloat16>(s.states));
  }
}

NCAFAST_DEVICE float get(const Stored<const void>& from, int64_t at) {
  float value = 0.0f;
  with_type(from, [&](const auto& states) { value = widened(states.values[at]); });
  return value;
}
NCAFAST_DEVICE void put(const Stored<void>& to, int64_t at, float value) {
  with_type(to, [&](const auto& states) { put(states.values, at, value); });
}

// As load_tile of tile.cuh, for half precision: not asynchronous, since every number is widened on its way. A thread
// has four loads under way at once, all of its own at C = 16: 720 quads of a tile of 8 x 16 and what lies around it,
// for 256 threads. By count, unverified on hardware.
template <class T>
NCAFAST_DEVICE void load_tile(const Shape& s, const States<const T>& x, const Tile& at, const int* shown, float* tile,
                              int from_place) {
  const T* from = x.values + at.sample * x.sample;
  if (x.aligned) {
    constexpr int together = 4;
    const QuadShare share = share_quads(s);
    for (int first = from_place + share.first; first < s.halo_cells; first += together * share.step) {
      Four<T> found[together];
      int cell[together];
#pragma unroll
      for (int j = 0; j < together; ++j) {
        const int place = first + j * share.step;
        cell[j] = place < s.halo_cells ? shown_cell(s, shown, place) : -1;
        found[j] = four_at(from + elements(cell[j] < 0 ? 0 : cell[j], s.channels) + share.channel);
      }
#pragma unroll
      for (int j = 0; j < together; ++j) {
        const int place = first + j * share.step;
        if (place >= s.halo_cells) break;
        quad_at(tile + place * s.channels4 + share.channel) =
            cell[j] < 0 ? make_float4(0.0f, 0.0f, 0.0f, 0.0f) : widened(found[j]);
      }
    }
  } else {
    for (int place = from_place + static_cast<int>(threadIdx.x); place < s.halo_cells;
         place += static_cast<int>(blockDim.x)) {
      const int cell = shown_cell(s, shown, place);
      for (int c = 0; c < s.channels4; ++c)
        tile[place * s.channels4 + c] =
            cell >= 0 && c < s.channels ? widened(from[cell * x.cell + c * x.channel]) : 0.0f;
    }
  }
  copy_async_commit();  // of what the caller has started
}

NCAFAST_DEVICE void load_tile(const Shape& s, const Stored<const void>& x, const Tile& at, const int* shown,
                              float* tile, int from_place = 0) {
  with_type(x, [&](const auto& states) { load_tile(s, states, at, shown, tile, from_place); });
}

// Writes `count` cells of the tile: value_of(number, place, c) of channels c to c + 3 of each; place_of(number) says
// where it is among those shown.
template <class PlaceOf, class ValueOf>
NCAFAST_DEVICE void put_cells(const Shape& s, const Stored<void>& to, const Tile& tile, const int* shown, int count,
                              PlaceOf place_of, ValueOf value_of) {
  with_type(to, [&](const auto& states) {
    using T = std::remove_pointer_t<decltype(states.values)>;
    const QuadShare share = share_quads(s);
    const int c = share.channel;
    for (int number = share.first; number < count; number += share.step) {
      const int place = place_of(number);
      const float4 value = value_of(number, place, c);
      T* out = states.values + tile.sample * states.sample + elements(shown_cell(s, shown, place), states.cell);
      if (states.aligned) {
        store_four(out + c, value);
      } else {
        out[c * states.channel] = narrowed<T>(value.x);
        if (c + 1 < s.channels) out[(c + 1) * states.channel] = narrowed<T>(value.y);
        if (c + 2 < s.channels) out[(c + 2) * states.channel] = narrowed<T>(value.z);
        if (c + 3 < s.channels) out[(c + 3) * states.channel] = narrowed<T>(value.w);
      }
    }
  });
}

}  // namespace ncafast::cuda
