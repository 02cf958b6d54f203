// The rollout backward on the host: step by step in reverse, each from its state; every block has sums of its own over
// all steps, which are added up once at the end.
#include <algorithm>

#include "../kinds.h"
#include "back_launches.h"
#include "backward.h"
#include "batch_norm_backward.cuh"
#include "gradients.cuh"
#include "layers.h"
#include "mlp_backward.cuh"
#include "perception_backward.cuh"
#include "stretches.h"

namespace ncafast::cuda {
namespace {

bool is_wide(const Shape& s) { return s.perception16 > 48 || s.channels8 > 16; }

BlockSize norm_block(const Rule& rule, const Grid& grid, int cells, bool pushes) {
  Arena arena(nullptr);
  NormMemory(make_shape(rule, grid, cells), pushes, arena);
  return {cells, norm_threads, arena.bytes()};
}

BlockSize filter_block(const Rule& rule, const Grid& grid, int multiprocessors) {
  const BlockSize sizes[] = {{tile_cells(grid, multiprocessors, 256), filter_threads, 0},
                             {tile_cells(grid, multiprocessors, 128), filter_threads, 0},
                             {32, filter_threads, 0}};
  return choose_block(sizes, 3, shared_memory_limit(), [&](const BlockSize& size) {
    Arena arena(nullptr);
    FilterMemory(make_shape(rule, grid, size.cells), arena);
    return arena.bytes();
  });
}

// Whether dL/dy should stay on the chip where nothing but the states' gradient wants it, or under batch norm that of
// all cells: there has to be room, and tiles have to leave less at their borders than dL/dy, which goes through memory
// twice. A launch less is worth 8 MB, 2 us at 4 TB/s. Model, unverified on hardware.
bool pushing_pays(const Rule& rule, const Grid& grid, int multiprocessors) {
  const BlockSize block = mlp_block(rule, grid, multiprocessors, true);
  if (block.bytes == 0) return false;
  const Shape s = make_shape(rule, grid, block.cells);
  int64_t within = 1;  // cells of a tile that no other tile sees
  for (int a = 0; a < 3; ++a) within *= std::max(0, s.box[a] - 2 * s.radius[a]);
  const int64_t around = s.halo_cells - s.box_cells, edge = s.box_cells - within;
  const int64_t border = s.channels4 * 2 * (around + edge), dy = s.box_cells * (2 * s.perception16 + s.channels4);
  return int64_t{sizeof(float)} * s.all_tiles * (border - dy) < 8 << 20;
}

bool filters_learn(const Inputs& in, const Gradients& gradients) {
  return in.rule.filters && gradients.parameters.filters;
}

// Whether the transposed perception comes right after dL/dy, on the chip.
bool pushes_of(const Inputs& in, const Gradients& gradients, int multiprocessors) {
  const bool only_states = !filters_learn(in, gradients) && !gradients.extra.values;
  return (has_batch_moments(in.rule.norm) || only_states) && pushing_pays(in.rule, in.grid, multiprocessors);
}

class Backward {
 public:
  Backward(const Inputs& in, const Place& place, const Gradients& gradients, Arena& arena)
      : in_(in),
        place_(place),
        gradients_(gradients),
        stepper_(in, place, arena),
        s_(stepper_.shape),
        norms_(stepper_.batch_norm),
        pushes_(pushes_of(in, gradients, place.multiprocessors)),
        mlp_(mlp_block(in.rule, in.grid, place.multiprocessors, pushes_)),
        norm_(norm_block(in.rule, in.grid, mlp_.cells, pushes_)),
        filter_(filter_block(in.rule, in.grid, place.multiprocessors)),
        mlp_shape_(make_shape(in.rule, in.grid, mlp_.cells)),
        filter_shape_(make_shape(in.rule, in.grid, filter_.cells)),
        slab_(s_) {
    const int64_t steps = in.plan.steps;
    g_[0] = arena.take<float>(stepper_.floats());
    g_[1] = pushes_ ? g_[0] : arena.take<float>(stepper_.floats());
    between_ = arena.take<float>(states_between(in.plan) * stepper_.floats());
    dy_ = pushes_ && !norms_ ? nullptr : arena.take<float>(s_.batch * s_.cells * s_.perception16);
    for (int i = 0; i < 2; ++i) {
      const bool needed = pushes_ && (i == 0 || !norms_);  // one kernel takes from one and leaves in the other
      borders_[i] = arena.take<float>(needed * mlp_shape_.all_tiles * mlp_shape_.halo_cells * s_.channels4);
    }
    // What starts at 0, side by side.
    zeros_ = arena.bytes();
    with_precision(place.precision, [&](auto precision) {
      mlp_blocks_ = resident(mlp_kernel<precision()>(), place, mlp_, s_.all_tiles ? mlp_shape_.all_tiles : 1);
      if (norms_) norm_blocks_ = resident(norm_kernel<precision()>(), place, norm_, mlp_shape_.all_tiles);
    });
    slabs_ = arena.take<float>(mlp_blocks_ * slab_.count);
    filter_blocks_ = static_cast<unsigned>(
        std::max<int64_t>(1, std::min<int64_t>(filter_shape_.all_tiles, 2 * int64_t{place.multiprocessors})));
    filter_slab_count_ = s_.filters
                             ? static_cast<int>(norms_ ? norm_blocks_ * filter_groups(mlp_shape_, norm_threads)
                                                       : filter_blocks_ * filter_groups(filter_shape_, filter_threads))
                             : 0;
    filter_slabs_ = arena.take<float>(int64_t{filter_slab_count_} * filter_slab(s_));
    const int64_t norm = norms_;
    norm_gamma_ = arena.take<float>(norm * s_.hidden);
    norm_beta_ = arena.take<float>(norm * s_.hidden);
    zeros_end_ = arena.bytes();
    sums_ = arena.take<float>(slab_.count);
    filter_sums_ = arena.take<float>(filter_slab(s_));
    by_two_ = arena.take<float>(norm * steps * s_.hidden);
    tree_ = take_tree(norms_ ? static_cast<int>(mlp_blocks_) : 0, norm_part(s_), arena);
    matrix_ = arena.take<float>(norm * s_.perception16 * s_.perception_row);
    offset_ = arena.take<float>(norm * s_.perception16);
  }

  // Whether the transposed perception was on the chip.
  bool run(const Kept<float>& kept, const uint8_t* tape, unsigned char* workspace) {
    tape_ = tape;
    memset_async(workspace + zeros_, 0, static_cast<size_t>(zeros_end_ - zeros_), place_.stream);
    if (s_.all_tiles > 0) {
      stepper_.prepare();
      clear_tickets(tree_, norms_ ? static_cast<int>(mlp_blocks_) : 0, place_.stream);
      go_back(
          in_, stepper_, s_, kept, between_, g_, place_.stream,
          [&](int64_t t, const States<const float>& x, const States<float>& to) {
            Tape here = tape_of(t);
            here.lives = stepper_.spare.lives;
            stepper_.run(t, x, to, here);
          },
          [&](int64_t t, const States<const float>& x) { step(t, x); });
      if (gradients_.x) {
        if (border_.from)
          launch_dependent(collect_border,
                           dim3(static_cast<unsigned>(std::min<int64_t>(mlp_shape_.all_tiles, 1 << 16))),
                           dim3(collect_threads), 0, place_.stream, Collect{mlp_shape_, border_.from, g_[0]});
        stepper_.change_layout(channels_last<const float>(g_[0], s_),
                               channels_first(static_cast<float*>(gradients_.x), s_), false);
      }
    }
    finish();
    return border_.from != nullptr;
  }

 private:
  template <Precision precision>
  auto mlp_kernel() const {
    return is_wide(s_) ? mlp_backward<precision, true> : mlp_backward<precision, false>;
  }
  template <Precision precision>
  auto norm_kernel() const {
    return is_wide(s_) ? batch_norm_backward<precision, most_perception / 8> : batch_norm_backward<precision, 6>;
  }

  // Only read.
  Tape tape_of(int64_t t) const {
    return tape_at(in_.rule, in_.grid, const_cast<uint8_t*>(tape_) + t * tape_bytes(in_.rule, in_.grid));
  }

  // g_[1] = dL/dx_t from g_[0] = dL/dx_(t+1); where it is pushed without what is at the border.
  void step(int64_t t, const States<const float>& x) {
    const Tape here = tape_of(t);
    const uint8_t* lives = stepper_.alive ? here.lives : nullptr;
    if (pushes_) border_.to = norms_ || border_.from != borders_[0] ? borders_[0] : borders_[1];
    const MlpBackward mlp{mlp_shape_,
                          x,
                          channels_last<const float>(g_[0], s_),
                          activity_of(in_, t, lives),
                          stepper_.weights_of(here),
                          stepper_.extra(t),
                          dy_,
                          g_[1],
                          border_,
                          stepper_.folding(here),
                          {tree_, norm_gamma_, norm_beta_, by_two_ + t * s_.hidden, matrix_, offset_},
                          slabs_,
                          begun_};
    begun_ = true;
    with_precision(place_.precision, [&](auto precision) {
      launch_dependent(mlp_kernel<precision()>(), dim3(mlp_blocks_), dim3(static_cast<unsigned>(mlp_.threads)),
                       static_cast<size_t>(mlp_.bytes), place_.stream, mlp);
    });
    border_.from = border_.to;
    const Extra<float> extra = extra_back(t);
    if (norms_) {
      batch_norm_backward_of(x, mlp, extra);
    } else if (!pushes_) {
      if (filters_learn(in_, gradients_))
        launch_filters_back(FiltersBack<States<const float>>{filter_shape_, x, dy_, filter_slabs_}, filter_blocks_,
                            filter_, place_.stream);
      if (extra.values)
        launch_dependent(add_extra, dim3(blocks_of(s_.batch * s_.cells, source_threads)), dim3(source_threads), 0,
                         place_.stream, AddExtra{s_, dy_, extra});
    }
    if (!pushes_)
      launch_dependent(
          perception_backward<const float*, float*>,
          dim3(blocks_of(s_.batch * s_.cells * (s_.channels4 / 4), source_threads)), dim3(source_threads), 0,
          place_.stream,
          PerceptionBackward<const float*, float*>{s_, dy_, stepper_.weights.filters, nullptr, g_[0], lives, g_[1]});
  }

  Extra<float> extra_back(int64_t t) const {
    Extra<float> here = gradients_.extra;
    if (here.values) here.values += t * here.step_stride;
    return here;
  }

  void batch_norm_backward_of(const States<const float>& x, const MlpBackward& mlp, const Extra<float>& extra) {
    with_precision(place_.precision, [&](auto precision) {
      launch_dependent(
          norm_kernel<precision()>(), dim3(norm_blocks_), dim3(norm_threads), static_cast<size_t>(norm_.bytes),
          place_.stream,
          BatchNormBackward{mlp_shape_, x, mlp.activity, mlp.weights, mlp.extra, matrix_, offset_, dy_, g_[1],
                            border_.to, filters_learn(in_, gradients_) ? filter_slabs_ : nullptr, extra});
    });
  }

  void finish() {
    launch_reduce(slabs_, static_cast<int>(mlp_blocks_), slab_.count, sums_, place_.stream);
    if (s_.filters) launch_reduce(filter_slabs_, filter_slab_count_, filter_slab(s_), filter_sums_, place_.stream);
    const float* moment = norms_ && in_.plan.steps > 0 ? tape_of(0).moment : nullptr;
    launch_dependent(
        write_gradients, dim3(32), dim3(256), 0, place_.stream,
        WriteGradients{s_, in_.rule, in_.parameters, sums_, filter_sums_, norm_gamma_, norm_beta_, by_two_, moment,
                       s_.all_tiles > 0 ? in_.plan.steps : 0,
                       tape_bytes(in_.rule, in_.grid) / static_cast<int64_t>(sizeof(float)), gradients_.parameters});
  }

  const Inputs& in_;
  const Place place_;
  const Gradients& gradients_;
  const Stepper stepper_;
  const Shape& s_;
  const bool norms_, pushes_;
  const BlockSize mlp_, norm_, filter_;
  const Shape mlp_shape_, filter_shape_;  // the former of both kernels under batch norm
  const Slab slab_;
  const uint8_t* tape_ = nullptr;
  Border border_{};  // `from`: of the step before
  bool begun_ = false;
  float *g_[2], *borders_[2], *between_, *dy_;  // between_: the states of a stretch after its first
  int64_t zeros_, zeros_end_;
  unsigned mlp_blocks_ = 0, norm_blocks_ = 0, filter_blocks_;
  int filter_slab_count_;
  float *slabs_, *filter_slabs_, *norm_gamma_, *norm_beta_;
  float *sums_, *filter_sums_, *by_two_, *matrix_, *offset_;
  Tree tree_;
};

}  // namespace

BlockSize mlp_block(const Rule& rule, const Grid& grid, int multiprocessors, bool pushes) {
  const Shape shape = make_shape(rule, grid, 1);
  const bool norms = has_batch_moments(rule.norm);
  const int threads = shape.hidden32 / 16 / (is_wide(shape) ? units16<true> : units16<false>)*32;
  const auto bytes = [&](const BlockSize& size) {
    Arena arena(nullptr);
    MlpMemory(make_shape(rule, grid, size.cells), pushes && !norms, arena);
    return arena.bytes();
  };
  const BlockSize sizes[] = {{tile_cells(grid, multiprocessors, 128), threads, 0},
                             {tile_cells(grid, multiprocessors, 64), threads, 0},
                             {32, threads, 0}};
  // Under batch norm both kernels have the same tiles, since one takes what the other leaves at their borders.
  BlockSize chosen = choose_block(sizes, 3, shared_memory_limit(), [&](const BlockSize& size) {
    return std::max(bytes(size), norms ? norm_block(rule, grid, size.cells, pushes).bytes : 0);
  });
  if (chosen.bytes > 0) chosen.bytes = bytes(chosen);
  return chosen;
}

std::vector<Launch> launches(const Rule& rule, const Grid& grid, bool fixed, int multiprocessors) {
  if (is_layered(rule, StateType::float32)) return layers_launches(rule, grid, fixed, multiprocessors);
  std::vector<Launch> found;
  const auto add = [&](const char* kernel, const BlockSize& block) {
    const Shape s = make_shape(rule, grid, block.cells);
    found.push_back({kernel, {s.box[0], s.box[1], s.box[2]}, s.all_tiles, block.threads, block.bytes});
  };
  const bool batch_norm = has_batch_moments(rule.norm);
  const bool pushes = (fixed || batch_norm) && pushing_pays(rule, grid, multiprocessors);
  add("step_kernel", step_block(rule, grid, multiprocessors));
  if (batch_norm) add("sum_moments", moment_block(rule, grid, multiprocessors));
  const BlockSize mlp = mlp_block(rule, grid, multiprocessors, pushes);
  add("mlp_backward", mlp);
  if (batch_norm) add("batch_norm_backward", norm_block(rule, grid, mlp.cells, pushes));
  if (rule.filters && !fixed && !batch_norm) add("filters_back", filter_block(rule, grid, multiprocessors));
  if (!pushes) add("perception_backward", {1, source_threads, 0});
  return found;
}

int64_t workspace_bytes(const Inputs& in, Precision precision, const Gradients* gradients, int multiprocessors) {
  if (is_layered(in.rule, in.state)) return layers_workspace(in, precision, gradients, multiprocessors);
  Arena arena(nullptr);
  const Place place{precision, multiprocessors, nullptr};
  if (gradients) {
    Backward(in, place, *gradients, arena);
  } else {
    const Stepper stepper(in, place, arena);
    arena.take<float>(stepper.floats());
  }
  return arena.bytes();
}

bool backward(const Inputs& in, Precision precision, int multiprocessors, const void* history, const uint8_t* tape,
              const void* grad_out, const void* grad_history, const Gradients& gradients, void* workspace,
              void* stream) {
  if (is_layered(in.rule, in.state)) {
    layers_backward(in, Place{precision, multiprocessors, stream}, history, tape, grad_out, grad_history, gradients,
                    workspace);
    return false;
  }
  Arena arena(workspace);
  return Backward(in, Place{precision, multiprocessors, stream}, gradients, arena)
      .run({static_cast<const float*>(history), static_cast<const float*>(grad_out),
            static_cast<const float*>(grad_history)},
           tape, static_cast<unsigned char*>(workspace));
}

}  // namespace ncafast::cuda
