// Steps of layered rules on the host, which forward and backward share.
#pragma once

#include "layers.h"
#include "life.cuh"

namespace ncafast::cuda {

// Cells of a tile, rows of a pass and the bytes of shared memory they need; no bytes: nothing fits.
struct LayerBlock {
  int cells, rows;
  int64_t bytes;
};

LayerBlock layer_block(const Rule& rule, const Grid& grid, int multiprocessors);

// The layers without their weights; and the shape whose perceptions lie in rows of that length.
Layers layers_of(const Rule& rule, int rows);
Shape layer_shape(const Rule& rule, const Grid& grid, int cells);

// Steps of one rollout with states of T. Its arrays lie in the workspace that `arena` cuts; with an arena of null it
// only counts.
template <class T>
class LayerSteps {
 public:
  LayerSteps(const Inputs& inputs, const Place& place, bool backward, Arena& arena);

  void prepare() const;  // once, before anything else
  // Step t. Under an alive mask `lives` [B, *S] is written, or an array of the workspace where it is null.
  void run(int64_t t, const States<const T>& from, const States<T>& to, uint8_t* lives) const;
  void change_layout(const States<const T>& from, const States<T>& to, bool adds) const;

  Extra<const float> extra(int64_t t) const;
  int64_t count() const { return shape.batch * shape.cells * shape.channels; }  // numbers of a state

  const Inputs& inputs;
  const Place place;
  const bool backward;
  const LayerBlock block;
  const Shape shape;
  Layers layers;

 private:
  unsigned blocks_ = 0;
  T* raw_;  // [B, *S, C] what a step leaves before the alive mask
  uint8_t *before_, *lives_;
};

}  // namespace ncafast::cuda
