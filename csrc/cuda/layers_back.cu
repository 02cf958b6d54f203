// The rollout backward of layered rules on the host: step by step in reverse, each from its state, some tiles at a
// time.
#include <algorithm>

#include "back_launches.h"
#include "dense_back.cuh"
#include "layer_steps.h"
#include "layers_back.cuh"
#include "layers_gradients.cuh"
#include "layers_trail.h"
#include "perception_backward.cuh"
#include "stretches.h"

namespace ncafast::cuda {
namespace {

BlockSize filter_block(const Rule& rule, const Grid& grid, int multiprocessors) {
  const BlockSize sizes[] = {{tile_cells(grid, multiprocessors, 128), filter_threads, 0}, {32, filter_threads, 0}};
  return choose_block(sizes, 2, shared_memory_limit(), [&](const BlockSize& size) {
    const Shape s = layer_shape(rule, grid, size.cells);
    Arena arena(nullptr);
    FilterMemory(s, arena);
    return arena.bytes();
  });
}

// Of states of T.
template <class T>
class LayersBackward {
 public:
  LayersBackward(const Inputs& in, const Place& place, const Gradients& gradients, Arena& arena)
      : in_(in),
        place_(place),
        gradients_(gradients),
        steps_(in, place, true, arena),
        s_(steps_.shape),
        l_(steps_.layers),
        filter_(filter_block(in.rule, in.grid, place.multiprocessors)),
        filter_shape_(layer_shape(in.rule, in.grid, filter_.cells)),
        trails_(s_, l_, place.multiprocessors, arena) {
    const int64_t cells = s_.batch * s_.cells;
    g_[0] = arena.take<T>(steps_.count());
    g_[1] = arena.take<T>(steps_.count());
    between_ = arena.take<T>(states_between(in.plan) * steps_.count());
    dy_ = arena.take<float>(cells * s_.perception16);
    dense_dy_ = arena.take<float>(cells * l_.dense16);
    dense_seen_ = arena.take<float>(s_.dense ? steps_.count() : 0);
    with_precision(place.precision, [&](auto precision) {
      back_blocks_ = resident(layers_back<precision()>, place, {steps_.block.cells, layer_threads, steps_.block.bytes},
                              std::max(trails_.tiles, 1));
    });
    splits_ = std::max(1, std::min(trails_.tiles, 4 * place.multiprocessors / trails_.blocks));
    filter_blocks_ = static_cast<int>(
        std::max<int64_t>(1, std::min<int64_t>(filter_shape_.all_tiles, 2 * int64_t{place.multiprocessors})));
    zeros_ = arena.bytes();
    slabs_ = arena.take<float>(splits_ * trails_.slab);
    filter_slabs_ = arena.take<float>(
        s_.filters ? int64_t{filter_blocks_} * filter_groups(filter_shape_, filter_threads) * filter_slab(s_) : 0);
    zeros_end_ = arena.bytes();
    sums_ = arena.take<float>(trails_.slab);
    filter_sums_ = arena.take<float>(filter_slab(s_));
  }

  void run(const Kept<T>& kept, const uint8_t* tape, unsigned char* workspace) {
    tape_ = tape;
    memset_async(workspace + zeros_, 0, static_cast<size_t>(zeros_end_ - zeros_), place_.stream);
    if (s_.all_tiles > 0) {
      steps_.prepare();
      go_back(
          in_, steps_, s_, kept, between_, g_, place_.stream,
          [&](int64_t t, const States<const T>& x, const States<T>& to) { steps_.run(t, x, to, nullptr); },
          [&](int64_t t, const States<const T>& x) { step(t, x); });
      if (gradients_.x)
        steps_.change_layout(channels_last<const T>(g_[0], s_), channels_first(static_cast<T*>(gradients_.x), s_),
                             false);
    }
    finish();
  }

 private:
  const uint8_t* lives_of(int64_t t) const { return s_.settles ? tape_ + t * tape_bytes(in_.rule, in_.grid) : nullptr; }

  // g_[1] = dL/dx_t from g_[0] = dL/dx_(t+1).
  void step(int64_t t, const States<const T>& x) {
    const uint8_t* lives = lives_of(t);
    for (int64_t first = 0; first < s_.all_tiles; first += trails_.tiles)
      through_tiles(t, x, lives, first, static_cast<int>(std::min<int64_t>(trails_.tiles, s_.all_tiles - first)));
    if (s_.filters && gradients_.parameters.filters)
      launch_filters_back(FiltersBack<Stored<const void>>{filter_shape_, stored(x), dy_, filter_slabs_},
                          static_cast<unsigned>(filter_blocks_), filter_, place_.stream);
    const int64_t cells = s_.batch * s_.cells;
    if (gradients_.extra.values) {
      Extra<float> target = gradients_.extra;
      target.values += t * target.step_stride;
      launch_dependent(add_extra, dim3(blocks_of(cells, source_threads)), dim3(source_threads), 0, place_.stream,
                       AddExtra{s_, dy_, target});
    }
    if (s_.dense)
      with_precision(place_.precision, [&](auto precision) {
        launch_dependent(dense_back<precision()>, dim3(blocks_of(cells, l_.rows)), dim3(layer_threads),
                         sizeof(float) * static_cast<size_t>(l_.rows * l_.row), place_.stream,
                         DenseBack{s_, l_, dense_dy_, dense_seen_});
      });
    using From = Stored<const void>;
    launch_dependent(
        perception_backward<From, Stored<void>>, dim3(blocks_of(cells * (s_.channels4 / 4), source_threads)),
        dim3(source_threads), 0, place_.stream,
        PerceptionBackward<From, Stored<void>>{s_, dy_, l_.weights.filters, s_.dense ? dense_seen_ : nullptr,
                                               stored(channels_last<const T>(g_[0], s_)), lives,
                                               stored(channels_last(g_[1], s_))});
  }

  void through_tiles(int64_t t, const States<const T>& x, const uint8_t* lives, int64_t first, int tiles) {
    const LayersBack back{s_,
                          l_,
                          stored(x),
                          stored(channels_last<const T>(g_[0], s_)),
                          activity_of(in_, t, lives),
                          steps_.extra(t),
                          trails_.trail,
                          first,
                          tiles,
                          dy_,
                          dense_dy_};
    const SumLayers sums = trails_.sums(tiles, slabs_);
    with_precision(place_.precision, [&](auto precision) {
      launch_dependent(layers_back<precision()>, dim3(std::min(back_blocks_, static_cast<unsigned>(tiles))),
                       dim3(layer_threads), static_cast<size_t>(steps_.block.bytes), place_.stream, back);
      launch_dependent(sum_layers<precision()>,
                       dim3(static_cast<unsigned>(trails_.blocks), static_cast<unsigned>(splits_)), dim3(sum_threads),
                       2 * sizeof(SumStage), place_.stream, sums);
    });
  }

  void finish() {
    launch_reduce(slabs_, splits_, trails_.slab, sums_, place_.stream);
    if (s_.filters)
      launch_reduce(filter_slabs_, filter_blocks_ * filter_groups(filter_shape_, filter_threads), filter_slab(s_),
                    filter_sums_, place_.stream);
    WriteLayers write{s_,
                      l_,
                      in_.rule,
                      in_.parameters,
                      sums_,
                      {},
                      trails_.update,
                      trails_.dense,
                      filter_sums_,
                      gradients_.parameters};
    std::copy_n(trails_.hidden, l_.count, write.hidden);
    launch_dependent(write_layers, dim3(64), dim3(256), 0, place_.stream, write);
  }

  const Inputs& in_;
  const Place place_;
  const Gradients& gradients_;
  const LayerSteps<T> steps_;
  const Shape& s_;
  const Layers& l_;
  const BlockSize filter_;
  const Shape filter_shape_;
  const Trails trails_;
  const uint8_t* tape_ = nullptr;
  T *g_[2], *between_;  // between_: the states of a stretch after its first
  float *dy_, *dense_dy_, *dense_seen_;
  int splits_ = 0, filter_blocks_ = 0;
  unsigned back_blocks_ = 0;
  int64_t zeros_, zeros_end_;
  float *slabs_, *filter_slabs_, *sums_, *filter_sums_;
};

}  // namespace

std::vector<Launch> layers_launches(const Rule& rule, const Grid& grid, bool fixed, int multiprocessors) {
  const LayerBlock block = layer_block(rule, grid, multiprocessors);
  std::vector<Launch> found;
  const auto add = [&](const char* kernel, int cells, int threads, int64_t bytes) {
    const Shape s = layer_shape(rule, grid, cells);
    found.push_back({kernel, {s.box[0], s.box[1], s.box[2]}, s.all_tiles, threads, bytes});
  };
  add("layers_step", block.cells, layer_threads, block.bytes);
  add("layers_back", block.cells, layer_threads, block.bytes);
  add("sum_layers", block.cells, sum_threads, 2 * sizeof(SumStage));
  if (rule.filters && !rule.dense && !fixed) {
    const BlockSize filter = filter_block(rule, grid, multiprocessors);
    add("filters_back", filter.cells, filter.threads, filter.bytes);
  }
  if (rule.dense) add("dense_back", 1, layer_threads, int64_t{4} * block.rows * layers_of(rule, block.rows).row);
  add("perception_backward", 1, source_threads, 0);
  return found;
}

int64_t layers_workspace(const Inputs& in, Precision precision, const Gradients* gradients, int multiprocessors) {
  Arena arena(nullptr);
  const Place place{precision, multiprocessors, nullptr};
  with_state(in.state, [&](auto zero) {
    using T = decltype(zero);
    if (gradients) {
      LayersBackward<T>(in, place, *gradients, arena);
    } else {
      const LayerSteps<T> steps(in, place, false, arena);
      arena.take<T>(steps.count());
    }
  });
  return arena.bytes();
}

void layers_backward(const Inputs& in, const Place& place, const void* history, const uint8_t* tape,
                     const void* grad_out, const void* grad_history, const Gradients& gradients, void* workspace) {
  Arena arena(workspace);
  with_state(in.state, [&](auto zero) {
    using T = decltype(zero);
    LayersBackward<T>(in, place, gradients, arena)
        .run({static_cast<const T*>(history), static_cast<const T*>(grad_out), static_cast<const T*>(grad_history)},
             tape, static_cast<unsigned char*>(workspace));
  });
}

}  // namespace ncafast::cuda
