// A rollout on chip (K5 for sm_90 and newer): a cluster of blocks holds a sample in its shared memory for all steps. A
// block steps its part from one array into the other; what its cells see of other parts it fetches from their blocks.
// Device memory is read for the first state and written for the last, and for the states that backward will want.
#pragma once

#include "step.cuh"

namespace ncafast::cuda {

constexpr int chip_threads = 256;  // at most

struct OnChip {
  Shape shape;        // its tiles are the parts of samples, its sample_tiles the blocks of a cluster
  Activity activity;  // this, extra and lives: of the first step
  Weights weights;
  Extra<const float> extra;
  Life life;
  Turns turns;
  int64_t mask_step;
};

struct ChipMemory {
  StepMemory step;          // its tile: the state now, with its surroundings
  float* next;              // the state after
  uint8_t *before, *lives;  // of the part's cells, under an alive mask

  NCAFAST_HOST_DEVICE ChipMemory(const Shape& s, int threads, Arena& arena) : step(s, threads, arena) {
    next = arena.take<float>(int64_t{s.halo_cells} * s.channels4);
    before = arena.take<uint8_t>(s.settles ? s.box_cells : 0);
    lives = arena.take<uint8_t>(s.settles ? s.box_cells : 0);
  }
};

// Who holds a cell of the sample: a block of the cluster, and the cell's places there.
struct Held {
  unsigned rank;
  int place, halo_place;
};

NCAFAST_DEVICE Held held_at(const Shape& s, const Tile& mine, const int (&cell)[3]) {
  int at[3], part[3];
  bool here = true;
#pragma unroll
  for (int a = 0; a < 3; ++a) {
    at[a] = cell[a] - mine.origin[a];
    here = here && at[a] >= 0 && at[a] < s.box[a];
  }
  Held held{cluster_rank(), 0, 0};
  if (!here) {
#pragma unroll
    for (int a = 0; a < 3; ++a) {
      part[a] = s.by_box[a](cell[a]);
      at[a] = cell[a] - part[a] * s.box[a];
    }
    held.rank = static_cast<unsigned>((part[0] * s.tiles[1] + part[1]) * s.tiles[2] + part[2]);
  }
  held.place = (at[0] * s.box[1] + at[1]) * s.box[2] + at[2];
  held.halo_place = ((at[0] + s.radius[0]) * s.halo[1] + at[1] + s.radius[1]) * s.halo[2] + at[2] + s.radius[2];
  return held;
}

// An array of the block that holds something.
template <class T>
NCAFAST_DEVICE const T* array_of(const Held& held, const T* mine) {
  return held.rank == cluster_rank() ? mine : cluster_map(mine, held.rank);
}

// Where a step finds what its cells see and leaves them: on chip.
struct InPart {
  float* next;
  const uint8_t* before;
  const Life& life;

  NCAFAST_DEVICE bool wanted(const Shape& s, const Tile& tile, const BoxCell& cell) const {
    if (!skips_dead(s, life)) return true;
    return near_living(s, life, cell.at, [&](const int (&there)[3]) {
      const Held held = held_at(s, tile, there);
      return array_of(held, before)[held.place] != 0;
    });
  }
  NCAFAST_DEVICE float* place(const Shape& s, const Tile&, int, int halo_place) const {
    return next + halo_place * s.channels4;
  }
  NCAFAST_DEVICE int64_t channel() const { return 1; }
  NCAFAST_DEVICE bool aligned() const { return true; }
};

// Calls work(place, cell) for all cells of the part, shared out among the block's threads.
template <class Work>
NCAFAST_DEVICE void each_held(const Shape& s, const Tile& tile, Work work) {
  for (int place = static_cast<int>(threadIdx.x); place < s.box_cells; place += static_cast<int>(blockDim.x)) {
    const BoxCell cell = box_cell(s, tile, place);
    if (cell.cell >= 0) work(place, cell);
  }
}

NCAFAST_DEVICE bool lives_on_chip(const Shape& s, const Life& life, const Tile& tile, const float* part,
                                  const BoxCell& cell) {
  return window_lives(s, life, cell.at, [&](const int (&there)[3]) {
    const Held held = held_at(s, tile, there);
    return array_of(held, part)[held.halo_place * s.channels4 + life.alive.channel];
  });
}

// What lies around a part, from the blocks that hold it, or as the padding says.
NCAFAST_DEVICE void fetch_surroundings(const Shape& s, const Tile& tile, float* part) {
  for (int i = static_cast<int>(threadIdx.x); i < s.halo_cells; i += static_cast<int>(blockDim.x)) {
    int at[3];
    halo_cell(s, i, at);
    bool own = true;
#pragma unroll
    for (int a = 0; a < 3; ++a) own = own && at[a] >= 0 && at[a] < s.box[a] && tile.origin[a] + at[a] < s.size[a];
    if (own) continue;
    float* const to = part + i * s.channels4;
    if (to_shown(s, tile, at)) {
      const Held held = held_at(s, tile, at);
      const float* from = array_of(held, part) + held.halo_place * s.channels4;
      for (int c = 0; c < s.channels4; c += 4) *reinterpret_cast<float4*>(to + c) = quad_at(from + c);
    } else {
      for (int c = 0; c < s.channels4; c += 4) *reinterpret_cast<float4*>(to + c) = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
  }
}

// The alive mask on `next`, which holds what the step left; `lives` [*S] of the sample keeps it for backward. Blocks
// meet first, so that all have stepped, and before `next` changes, so that all have looked at it.
NCAFAST_DEVICE void settle_part(const Shape& s, const Life& life, const ChipMemory& m, const Tile& tile,
                                const float* state, float* next, uint8_t* lives) {
  cluster_sync();
  each_held(s, tile, [&](int place, const BoxCell& cell) {
    const bool alive =
        (!life.alive.pre || m.before[place]) && (!life.alive.post || lives_on_chip(s, life, tile, next, cell));
    m.lives[place] = alive;
    lives[cell.cell] = alive;
  });
  cluster_sync();
  each_held(s, tile, [&](int place, const BoxCell& cell) {
    const int first = cell.halo_place * s.channels4;
    for (int c = 0; c < s.channels; ++c)
      next[first + c] = settled(s, c, state[first + c], next[first + c], m.lives[place]);
  });
}

// All cells of the part, whatever the step before listed.
NCAFAST_DEVICE void write_part(const Shape& s, const InMemory& where, const Tile& tile, const float* state) {
  write_cells<false>(
      s, where, tile, state, s.box_cells, [&](int number) { return halo_place_at(s, number); },
      [&](int place) {
        int at[3];
        halo_cell(s, place, at);
        bool there = true;
#pragma unroll
        for (int a = 0; a < 3; ++a) {
          at[a] += tile.origin[a];
          there = there && at[a] < s.size[a];
        }
        return there ? cell_number(s, at) : -1;
      });
}

template <Precision precision, int blocks8>
__global__ void __launch_bounds__(chip_threads, 1) chip_kernel(const __grid_constant__ OnChip a) {
#if NCAFAST_HAS_CLUSTERS
  const Shape& s = a.shape;
  Arena arena(shared_memory<unsigned char>());
  const ChipMemory m(s, static_cast<int>(blockDim.x), arena);
  clear_padding(s, static_cast<int>(blockDim.x), m.step.y);
  const Tile tile = tile_at(s, static_cast<int>(blockIdx.x));
  const int64_t steps = a.turns.plan.steps;
  load_weights(s, m.step, a.weights);
  load_first(s, m.step, a.weights);
  note_shown(s, tile, m.step.shown);
  __syncthreads();
  load_tile(s, a.turns.before(s, 0), tile, m.step.shown, m.step.tile);
  float *state = m.step.tile, *next = m.next;
  // Channels past the last are never written.
  for (int i = static_cast<int>(threadIdx.x); i < s.halo_cells * s.channels4; i += static_cast<int>(blockDim.x))
    next[i] = 0.0f;
  copy_async_wait();
  Activity activity = a.activity;
  Extra<const float> extra = a.extra;
  cluster_sync();
#pragma unroll 1
  for (int64_t t = 0;;) {
    if (skips_dead(s, a.life)) {
      each_held(s, tile,
                [&](int place, const BoxCell& cell) { m.before[place] = lives_on_chip(s, a.life, tile, state, cell); });
      cluster_sync();
    }
    step_tile<precision, blocks8>(s, m.step, Sight{state, m.step.filters, m.step.filter_bias, a.weights.centre, extra},
                                  a.weights, activity, tile, InPart{next, m.before, a.life});
    if (s.settles)
      settle_part(s, a.life, m, tile, state, next, a.life.lives + t * a.life.lives_step + tile.sample * s.cells);
    cluster_sync();  // also at the end: none may be gone while another still fetches from it
    float* const swapped = state;
    state = next;
    next = swapped;
    ++t;
    // The last state is the caller's in any case, in the caller's layout.
    if (a.turns.keeps(t)) write_part(s, InMemory{a.turns.after(s, t), a.life}, tile, state);
    if (t >= steps) break;
    fetch_surroundings(s, tile, state);  // seen by all after list_active's barriers
    go_on(activity, a.mask_step, extra);
  }
  write_part(s, InMemory{channels_first(a.turns.out, s), a.life}, tile, state);
#endif
}

}  // namespace ncafast::cuda
