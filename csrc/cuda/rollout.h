// What forward and backward share on the host: sizes of launches, a step, the tape. See rollout.cu.
#pragma once

#include <cstddef>

#include "active.h"
#include "arena.h"
#include "device.h"
#include "shape.h"
#include "tree.h"
#include "turns.h"

namespace ncafast::cuda {

// Where kernels run.
struct Place {
  Precision precision;
  int multiprocessors;
  void* stream;
};

// Cells of a tile, threads of a block, and its shared memory; no bytes: nothing fits.
struct BlockSize {
  int cells, threads;
  int64_t bytes;
};

// Tiles of at most `most` cells, smaller where the grid would else leave multiprocessors without one.
int tile_cells(const Grid& grid, int multiprocessors, int most);

// The part of all cells that fires.
inline double fire_rate_of(const Rule& rule) { return static_cast<double>(rule.fire_limit) / 4294967296.0; }

BlockSize step_block(const Rule& rule, const Grid& grid, int multiprocessors);
BlockSize moment_block(const Rule& rule, const Grid& grid, int multiprocessors);

// A launch of all steps under batch norm; see norm_steps.cu.
struct NormSteps {
  Shape shape;
  BlockSize block;
  unsigned blocks;  // 0: there is none
};

struct Step;
NormSteps plan_norm_steps(const Inputs& inputs, const Place& place);
void launch_norm_steps(const NormSteps& steps, const Place& place, const Step& step);

// The first of the sizes that leaves room for a second block on a multiprocessor, else the first that fits at all.
template <class Bytes>
BlockSize choose_block(const BlockSize* sizes, int count, int64_t limit, Bytes bytes) {
  constexpr int64_t own = 1024;  // that every block costs beside what it asks for; a multiprocessor has limit + own
  for (const int64_t most : {(limit + own) / 2 - own, limit})
    for (int i = 0; i < count; ++i) {
      const int64_t needed = bytes(sizes[i]);
      if (needed <= most) return {sizes[i].cells, sizes[i].threads, needed};
    }
  return {0, 0, 0};
}

// What forward writes down of a step.
struct Tape {
  float *mean, *moment, *inverse;  // [P], [P, P], [H] under batch norm
  uint8_t* lives;                  // [B, *S] under an alive mask
};

Tape tape_at(const Rule& rule, const Grid& grid, uint8_t* step);

struct Life;
struct Folding;
struct Measuring;

// Which cells step t moves: those that fire, of the wanted ones.
Activity activity_of(const Inputs& inputs, int64_t t, const uint8_t* wanted);

// Steps of one rollout. Its arrays lie in the workspace that `arena` cuts; with an arena of null it only counts.
class Stepper {
 public:
  Stepper(const Inputs& inputs, const Place& place, Arena& arena);

  void prepare() const;  // once, before anything else
  // The moments of `from` into the tape, mean and variance of the hidden units into `stats` [2, H].
  void measure(int64_t t, const States<const float>& from, const Tape& tape, float* stats) const;
  // What kernels read of the parameters and of a step's moments.
  Weights weights_of(const Tape& tape) const;
  Folding folding(const Tape& tape) const;
  // The step itself, measured already. Under an alive mask `tape.lives` is written.
  void run(int64_t t, const States<const float>& from, const States<float>& to, const Tape& tape) const;

  // All steps in one launch: whether nothing comes between them, whether it pays as well, and the launch; `tape` is
  // that of the first step, or null.
  bool can_be_whole() const;
  bool should_be_whole() const;
  void run_all(const Turns& turns, uint8_t* tape, float* stats) const;

  // The alive mask's arrays, with the lives of a first step whose tape that is.
  Life life(uint8_t* tape) const;

  Extra<const float> extra(int64_t t) const;
  void change_layout(const States<const float>& from, const States<float>& to, bool adds) const;
  int64_t floats() const { return shape.batch * shape.cells * shape.channels; }

  const Inputs& inputs;
  const Place place;
  const BlockSize block, moments;
  const Shape shape, moment_shape;
  const bool alive, batch_norm;
  const NormSteps norm_steps;
  Weights weights;
  Tape spare;  // of a step whose tape nobody keeps

 private:
  int moment_blocks() const;
  int tree_blocks() const;
  Measuring measuring(const Tape& tape, float* stats) const;

  unsigned step_blocks_ = 0;

  Tree tree_;   // of the moments
  float* raw_;  // [B, *S, C] what a step leaves before the alive mask
  uint8_t* before_;
};

}  // namespace ncafast::cuda
