// Trails of layered rules on the host: where they lie, how many tiles have room, and the products over their rows.
#pragma once

#include <algorithm>

#include "layers_sums.cuh"

namespace ncafast::cuda {

// Bytes of a trail for each multiprocessor: on an H200 64 MB, about what its L2 holds. Unverified on hardware.
constexpr int64_t trail_bytes = 512 * 1024;

struct Trails {
  Trails(const Shape& s, const Layers& layers, int multiprocessors, Arena& arena) : l(layers) {
    const int taps = s.dense ? s.taps * l.channels16 : 0;
    int64_t each = s.perception16 + taps + l.dense16 + l.channels16;  // floats of a row
    for (int i = 0; i < l.count; ++i) each += 2 * l.width[i];
    trail.tile_rows = round_up_int(s.box_cells, 16);
    const int64_t most = trail_bytes * multiprocessors / (4 * each * trail.tile_rows);
    tiles = static_cast<int>(std::min(s.all_tiles, std::max<int64_t>(most, 1)));
    const int64_t rows = int64_t{tiles} * trail.tile_rows;
    trail.counts = arena.take<int>(tiles);
    trail.y = arena.take<float>(rows * s.perception16);
    trail.taps = arena.take<float>(rows * taps);
    trail.dense = arena.take<float>(rows * l.dense16);
    trail.update = arena.take<float>(rows * l.channels16);
    for (int i = 0; i < l.count; ++i) {
      trail.hidden[i] = arena.take<float>(rows * l.width[i]);
      trail.delta[i] = arena.take<float>(rows * l.width[i]);
      hidden[i] = add(trail.delta[i], l.width[i], i ? trail.hidden[i - 1] : trail.y, l.inputs[i]);
    }
    const int last = l.count - 1;
    update = add(trail.update, l.channels16, trail.hidden[last], l.width[last]);
    if (s.dense) dense = add(trail.dense, l.dense16, trail.taps, taps);
  }

  // The products over the first `count` tiles of a trail.
  SumLayers sums(int count, float* slabs) const {
    SumLayers all{{}, l.count + 1 + (l.dense16 > 0), trail.counts, count, trail.tile_rows, slabs, slab};
    std::copy_n(hidden, l.count, all.of);
    all.of[l.count] = update;
    all.of[l.count + 1] = dense;
    return all;
  }

  const Layers& l;
  Trail trail{};
  int tiles;  // of a trail
  LayerSum hidden[max_hidden_layers]{}, update{}, dense{};
  int blocks = 0;    // of all products
  int64_t slab = 0;  // floats of all sums

 private:
  LayerSum add(const float* delta, int outputs, const float* values, int terms) {
    const LayerSum sum{delta, values, outputs, terms, slab, slab + int64_t{outputs} * terms};
    slab = sum.bias_at + outputs;
    blocks += sum.blocks();
    return sum;
  }
};

}  // namespace ncafast::cuda
