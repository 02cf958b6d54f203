// The rollout backward on the host: step by step in reverse, each from its state; every block has sums of its own over
// all steps, which are added up once at the end, or for batch norm's first layer once a step.
#include <algorithm>

#include "../kinds.h"
#include "backward.h"
#include "filters_back.cuh"
#include "gradients.cuh"
#include "launches.h"
#include "norm_back.cuh"
#include "reduce.cuh"
#include "through_mlp.cuh"
#include "to_sources.cuh"

namespace ncafast::cuda {
namespace {

bool is_wide(const Shape& s) { return s.perception16 > 48 || s.channels8 > 16; }

BlockSize norm_block(const Rule& rule, const Grid& grid, int multiprocessors) {
  const int cells = tile_cells(grid, multiprocessors, norm_threads);
  const BlockSize sizes[] = {{cells, cells, 0}, {cells, std::min(cells, 64), 0}, {32, 32, 0}};
  return choose_block(sizes, 3, shared_memory_limit(), [&](const BlockSize& size) {
    Arena arena(nullptr);
    NormMemory(make_shape(rule, grid, size.cells), size.threads, arena);
    return arena.bytes();
  });
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

// Whether dL/dy should stay on the chip where nothing but the states' gradient wants it: there has to be room, and
// tiles have to leave less at their borders than dL/dy, which goes through memory twice. A launch less is worth 8 MB, 2
// us at 4 TB/s. Model, unverified on hardware.
bool pushing_pays(const Rule& rule, const Grid& grid, int multiprocessors) {
  const BlockSize block = mlp_block(rule, grid, multiprocessors, true);
  if (has_batch_moments(rule.norm) || block.bytes == 0) return false;
  const Shape s = make_shape(rule, grid, block.cells);
  int64_t within = 1;  // cells of a tile that no other tile sees
  for (int a = 0; a < 3; ++a) within *= std::max(0, s.box[a] - 2 * s.radius[a]);
  const int64_t around = s.halo_cells - s.box_cells, edge = s.box_cells - within;
  const int64_t border = s.channels4 * 2 * (around + edge), dy = s.box_cells * (2 * s.perception16 + s.channels4);
  return int64_t{sizeof(float)} * s.all_tiles * (border - dy) < 8 << 20;
}

bool only_states_want_dy(const Inputs& in, const Gradients& gradients) {
  return !(in.rule.filters && gradients.parameters.filters) && !gradients.extra.values;
}

class Backward {
 public:
  Backward(const Inputs& in, const Place& place, const Gradients& gradients, Arena& arena)
      : in_(in),
        place_(place),
        gradients_(gradients),
        stepper_(in, place, arena),
        s_(stepper_.shape),
        pushes_(only_states_want_dy(in, gradients) && pushing_pays(in.rule, in.grid, place.multiprocessors)),
        mlp_(mlp_block(in.rule, in.grid, place.multiprocessors, pushes_)),
        norm_(norm_block(in.rule, in.grid, place.multiprocessors)),
        filter_(filter_block(in.rule, in.grid, place.multiprocessors)),
        mlp_shape_(make_shape(in.rule, in.grid, mlp_.cells)),
        norm_shape_(make_shape(in.rule, in.grid, norm_.cells)),
        filter_shape_(make_shape(in.rule, in.grid, filter_.cells)),
        slab_(s_) {
    const int64_t steps = in.plan.steps, every = stretch();
    g_[0] = arena.take<float>(stepper_.floats());
    g_[1] = pushes_ ? g_[0] : arena.take<float>(stepper_.floats());
    between_ = arena.take<float>((std::min(every, steps) - 1) * stepper_.floats() * (steps > 0));
    dy_ = pushes_ ? nullptr : arena.take<float>(s_.batch * s_.cells * s_.perception16);
    for (float*& border : borders_)
      border = arena.take<float>(pushes_ * mlp_shape_.all_tiles * mlp_shape_.halo_cells * s_.channels4);
    // What starts at 0, side by side.
    zeros_ = arena.bytes();
    with_precision(place.precision, [&](auto precision) {
      mlp_blocks_ = resident(mlp_kernel<precision()>(), place, mlp_, s_.all_tiles ? mlp_shape_.all_tiles : 1);
      if (stepper_.batch_norm) norm_blocks_ = resident(through_norm<precision()>, place, norm_, norm_shape_.all_tiles);
    });
    slabs_ = arena.take<float>(mlp_blocks_ * slab_.count);
    filter_blocks_ = static_cast<int>(
        std::max<int64_t>(1, std::min<int64_t>(filter_shape_.all_tiles, 2 * int64_t{place.multiprocessors})));
    filter_slab_ = int64_t{s_.taps} * s_.filters * s_.channels4;
    filter_slabs_ = arena.take<float>(s_.filters ? filter_blocks_ * filter_groups(filter_shape_) * filter_slab_ : 0);
    const int64_t norm = stepper_.batch_norm;
    norm_first_ = arena.take<float>(norm * s_.hidden * s_.perception);
    norm_gamma_ = arena.take<float>(norm * s_.hidden);
    norm_beta_ = arena.take<float>(norm * s_.hidden);
    zeros_end_ = arena.bytes();
    sums_ = arena.take<float>(slab_.count);
    filter_sums_ = arena.take<float>(filter_slab_);
    by_two_ = arena.take<float>(norm * s_.hidden);
    by_one_ = arena.take<float>(norm * s_.hidden);
    matrix_ = arena.take<float>(norm * s_.perception16 * s_.perception_row);
    offset_ = arena.take<float>(norm * s_.perception16);
  }

  // Whether dL/dy stayed on the chip.
  bool run(const float* history, const uint8_t* tape, const float* grad_out, const float* grad_history,
           unsigned char* workspace) {
    const Plan& plan = in_.plan;
    tape_ = tape;
    memset_async(workspace + zeros_, 0, static_cast<size_t>(zeros_end_ - zeros_), place_.stream);
    if (s_.all_tiles > 0) {
      stepper_.prepare();
      if (grad_out)
        stepper_.change_layout(channels_first(grad_out, s_), channels_last(g_[0], s_), false);
      else
        memset_async(g_[0], 0, sizeof(float) * static_cast<size_t>(stepper_.floats()), place_.stream);
      const int64_t every = stretch();
      for (int64_t start = (plan.steps - 1) / every * every; start >= 0 && plan.steps; start -= every) {
        const int64_t end = std::min(start + every, plan.steps);
        const auto state = [&](int64_t t) {
          if (t > start) return channels_last<const float>(between_ + (t - start - 1) * stepper_.floats(), s_);
          return start == 0 ? channels_first(in_.x, s_)
                            : channels_last(history + (start / every - 1) * stepper_.floats(), s_);
        };
        for (int64_t t = start; t + 1 < end; ++t) {
          if (stepper_.batch_norm) stepper_.fold(tape_of(t), stepper_.spare_stats);
          stepper_.run(t, state(t), channels_last(between_ + (t - start) * stepper_.floats(), s_), stepper_.spare);
        }
        for (int64_t t = end - 1; t >= start; --t) {
          const int64_t number = t + 1;
          if (grad_history && plan.every && number % plan.every == 0 && number / plan.every <= plan.kept)
            stepper_.change_layout(channels_first(grad_history + (number / plan.every - 1) * stepper_.floats(), s_),
                                   channels_last(g_[0], s_), true);
          step(t, state(t));
          std::swap(g_[0], g_[1]);
        }
      }
      if (gradients_.x) {
        if (border_.from)
          launch_dependent(collect_border,
                           dim3(static_cast<unsigned>(std::min<int64_t>(mlp_shape_.all_tiles, 1 << 16))),
                           dim3(collect_threads), 0, place_.stream, Collect{mlp_shape_, border_.from, g_[0]});
        stepper_.change_layout(channels_last<const float>(g_[0], s_), channels_first(gradients_.x, s_), false);
      }
    }
    finish();
    return border_.from != nullptr;
  }

 private:
  template <Precision precision>
  auto mlp_kernel() const {
    return is_wide(s_) ? through_mlp<precision, true> : through_mlp<precision, false>;
  }

  int64_t stretch() const { return in_.plan.every ? in_.plan.every : std::max<int64_t>(in_.plan.steps, 1); }

  // Only read, but for `lives`, which backward never writes.
  Tape tape_of(int64_t t) const {
    return tape_at(in_.rule, in_.grid, const_cast<uint8_t*>(tape_) + t * tape_bytes(in_.rule, in_.grid));
  }

  // g_[1] = dL/dx_t from g_[0] = dL/dx_(t+1); where dL/dy stays on the chip without what is at the border.
  void step(int64_t t, const States<const float>& x) {
    const Tape here = tape_of(t);
    const uint8_t* lives = stepper_.alive ? here.lives : nullptr;
    if (stepper_.batch_norm) stepper_.fold(here, stepper_.spare_stats);
    if (pushes_) border_.to = border_.from == borders_[0] ? borders_[1] : borders_[0];
    const ThroughMlp mlp{mlp_shape_,
                         x,
                         channels_last<const float>(g_[0], s_),
                         activity_of(in_, t, lives),
                         stepper_.weights,
                         stepper_.extra(t),
                         dy_,
                         g_[1],
                         border_,
                         slabs_,
                         stepper_.batch_norm,
                         begun_ && !stepper_.batch_norm};
    begun_ = true;
    with_precision(place_.precision, [&](auto precision) {
      launch_dependent(mlp_kernel<precision()>(), dim3(mlp_blocks_), dim3(static_cast<unsigned>(mlp_.threads)),
                       static_cast<size_t>(mlp_.bytes), place_.stream, mlp);
    });
    border_.from = border_.to;
    if (pushes_) return;
    if (stepper_.batch_norm) through_norm_of(t, x, here);
    if (s_.filters && gradients_.parameters.filters) filters(x);
    const Extra<float>& extra = gradients_.extra;
    if (extra.values) {
      Extra<float> target = extra;
      target.values += t * extra.step_stride;
      launch_dependent(add_extra, dim3(blocks_of(s_.batch * s_.cells, source_threads)), dim3(source_threads), 0,
                       place_.stream, AddExtra{s_, dy_, target});
    }
    launch_dependent(to_sources, dim3(blocks_of(s_.batch * s_.cells * (s_.channels4 / 4), source_threads)),
                     dim3(source_threads), 0, place_.stream,
                     ToSources{s_, dy_, stepper_.weights.filters, g_[0], lives, g_[1]});
  }

  void through_norm_of(int64_t t, const States<const float>& x, const Tape& here) {
    reduce(slabs_, static_cast<int>(mlp_blocks_), slab_.count, slab_.layer, sums_);
    const NormGradients found{s_,
                              rounds_to_tf32(place_.precision),
                              in_.rule.norm_eps,
                              in_.parameters.hidden[0],
                              sums_,
                              here.moment,
                              stepper_.spare_stats,
                              norm_first_,
                              norm_gamma_,
                              norm_beta_,
                              by_two_,
                              by_one_,
                              matrix_,
                              offset_};
    launch_dependent(norm_gradients, dim3(blocks_of(s_.hidden, 4)), dim3(128), 0, place_.stream, found);
    launch_dependent(norm_map, dim3(blocks_of(int64_t{s_.perception16} * s_.perception_row, 256)), dim3(256), 0,
                     place_.stream, found);
    with_precision(place_.precision, [&](auto precision) {
      launch_dependent(through_norm<precision()>, dim3(norm_blocks_), dim3(static_cast<unsigned>(norm_.threads)),
                       static_cast<size_t>(norm_.bytes), place_.stream,
                       ThroughNorm{norm_shape_, x, stepper_.weights, stepper_.extra(t), matrix_, offset_, dy_});
    });
  }

  void filters(const States<const float>& x) {
    const int row = s_.kernel[2];
    const auto kernel = row == 1   ? filters_back<1>
                        : row == 3 ? filters_back<3>
                        : row == 5 ? filters_back<5>
                                   : filters_back<7>;
    launch_dependent(kernel, dim3(static_cast<unsigned>(filter_blocks_), blocks_of(filter_items(s_), filter_threads)),
                     dim3(filter_threads), static_cast<size_t>(filter_.bytes), place_.stream,
                     FiltersBack{filter_shape_, x, dy_, filter_slabs_});
  }

  void reduce(const float* slabs, int count, int64_t slab, int64_t elements, float* to) {
    launch_dependent(reduce_slabs, dim3(blocks_of(elements, reduce_width)), dim3(reduce_width * reduce_slices), 0,
                     place_.stream, slabs, count, slab, elements, to);
  }

  void finish() {
    reduce(slabs_, static_cast<int>(mlp_blocks_), slab_.count, slab_.count, sums_);
    if (s_.filters)
      reduce(filter_slabs_, filter_blocks_ * filter_groups(filter_shape_), filter_slab_, filter_slab_, filter_sums_);
    launch_dependent(write_gradients, dim3(32), dim3(256), 0, place_.stream,
                     WriteGradients{s_, in_.rule, in_.parameters, sums_, filter_sums_, norm_first_, norm_gamma_,
                                    norm_beta_, gradients_.parameters});
  }

  const Inputs& in_;
  const Place place_;
  const Gradients& gradients_;
  const Stepper stepper_;
  const Shape& s_;
  const bool pushes_;  // dL/dy stays on the chip
  const BlockSize mlp_, norm_, filter_;
  const Shape mlp_shape_, norm_shape_, filter_shape_;
  const Slab slab_;
  const uint8_t* tape_ = nullptr;
  Border border_{};  // `from`: of the step before
  bool begun_ = false;
  float *g_[2], *borders_[2], *between_, *dy_;  // between_: the states of a stretch after its first
  int64_t zeros_, zeros_end_;
  unsigned mlp_blocks_ = 0, norm_blocks_ = 0;
  int filter_blocks_;
  int64_t filter_slab_;
  float *slabs_, *filter_slabs_, *norm_first_, *norm_gamma_, *norm_beta_;
  float *sums_, *filter_sums_, *by_two_, *by_one_, *matrix_, *offset_;
};

}  // namespace

BlockSize mlp_block(const Rule& rule, const Grid& grid, int multiprocessors, bool pushes) {
  const Shape shape = make_shape(rule, grid, 1);
  const int threads = shape.hidden32 / 16 / (is_wide(shape) ? units16<true> : units16<false>)*32;
  const BlockSize sizes[] = {{tile_cells(grid, multiprocessors, 128), threads, 0},
                             {tile_cells(grid, multiprocessors, 64), threads, 0},
                             {32, threads, 0}};
  return choose_block(sizes, 3, shared_memory_limit(), [&](const BlockSize& size) {
    Arena arena(nullptr);
    MlpMemory(make_shape(rule, grid, size.cells), pushes, arena);
    return arena.bytes();
  });
}

std::vector<Launch> launches(const Rule& rule, const Grid& grid, bool fixed, int multiprocessors) {
  std::vector<Launch> found;
  const auto add = [&](const char* kernel, const BlockSize& block) {
    const Shape s = make_shape(rule, grid, block.cells);
    found.push_back({kernel, {s.box[0], s.box[1], s.box[2]}, s.all_tiles, block.threads, block.bytes});
  };
  const bool batch_norm = has_batch_moments(rule.norm);
  const bool pushes = fixed && pushing_pays(rule, grid, multiprocessors);
  add("step_kernel", step_block(rule, grid, multiprocessors));
  if (batch_norm) add("sum_moments", moment_block(rule, grid, multiprocessors));
  add("through_mlp", mlp_block(rule, grid, multiprocessors, pushes));
  if (batch_norm) add("through_norm", norm_block(rule, grid, multiprocessors));
  if (rule.filters && !fixed) add("filters_back", filter_block(rule, grid, multiprocessors));
  if (!pushes) add("to_sources", {1, source_threads, 0});
  return found;
}

int64_t workspace_bytes(const Inputs& in, Precision precision, const Gradients* gradients, int multiprocessors) {
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

bool backward(const Inputs& in, Precision precision, int multiprocessors, const float* history, const uint8_t* tape,
              const float* grad_out, const float* grad_history, const Gradients& gradients, void* workspace,
              void* stream) {
  Arena arena(workspace);
  return Backward(in, Place{precision, multiprocessors, stream}, gradients, arena)
      .run(history, tape, grad_out, grad_history, static_cast<unsigned char*>(workspace));
}

}  // namespace ncafast::cuda
