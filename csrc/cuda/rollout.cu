// Steps on the host: which kernels run in which order, all on the caller's stream; and the rollout forward.
#include <algorithm>
#include <string>

#include "../kinds.h"
#include "backward.h"
#include "launches.h"
#include "layers.h"
#include "layout.cuh"
#include "life.cuh"
#include "moments.cuh"
#include "on_chip.h"
#include "prepare.cuh"
#include "rollout.h"
#include "step.cuh"
#include "ways.h"

namespace ncafast::cuda {
namespace {

template <Precision precision>
auto step_kernel_of(const Shape& s) {
  return s.channels8 == 16 ? step_kernel<precision, 2> : step_kernel<precision, 4>;
}

int64_t moment_bytes(const Rule& rule, const Shape& s) {
  return has_batch_moments(rule.norm) ? 4 * (int64_t{s.perception} * (1 + s.perception) + s.hidden) : 0;
}

}  // namespace

int tile_cells(const Grid& grid, int multiprocessors, int most) {
  const int64_t each = grid.batch * grid.size[0] * grid.size[1] * grid.size[2] / multiprocessors;
  while (most > 32 && most > each) most /= 2;
  return most;
}

BlockSize step_block(const Rule& rule, const Grid& grid, int multiprocessors) {
  // Where half of the cells fire, a thread for every second cell of a tile has one row of a pass.
  const bool half = rule.fire_limit <= (uint64_t{5} << 32) / 8;
  const int cells = tile_cells(grid, multiprocessors, half ? 2 * step_threads : step_threads);
  const int threads = std::max(32, half ? cells / 2 : cells);
  const BlockSize sizes[] = {{cells, threads, 0},
                             {std::min(cells, 128), threads, 0},
                             {std::min(cells, 128), std::min(threads, 64), 0},
                             {std::min(cells, 64), std::min(threads, 64), 0},
                             {32, 32, 0}};
  return choose_block(sizes, 5, shared_memory_limit(), [&](const BlockSize& size) {
    Arena arena(nullptr);
    StepMemory(make_shape(rule, grid, size.cells), size.threads, arena);
    return arena.bytes();
  });
}

BlockSize moment_block(const Rule& rule, const Grid& grid, int multiprocessors) {
  if (!has_batch_moments(rule.norm)) return {32, moment_threads, 0};
  const BlockSize sizes[] = {{tile_cells(grid, multiprocessors, 256), moment_threads, 0},
                             {tile_cells(grid, multiprocessors, 128), moment_threads, 0},
                             {32, moment_threads, 0}};
  return choose_block(sizes, 3, shared_memory_limit(), [&](const BlockSize& size) {
    Arena arena(nullptr);
    MomentMemory(make_shape(rule, grid, size.cells), arena);
    return arena.bytes();
  });
}

Tape tape_at(const Rule& rule, const Grid& grid, uint8_t* step) {
  const Shape s = make_shape(rule, grid, 1);
  float* mean = reinterpret_cast<float*>(step);
  float* moment = mean + s.perception;
  return {mean, moment, moment + s.perception * s.perception, step + moment_bytes(rule, s)};
}

int64_t tape_bytes(const Rule& rule, const Grid& grid) {
  const Shape s = make_shape(rule, grid, 1);
  const int64_t lives = rule.alive.channel >= 0 ? s.batch * s.cells : 0;
  return (moment_bytes(rule, s) + lives + 15) / 16 * 16;
}

Stepper::Stepper(const Inputs& in, const Place& where, Arena& arena)
    : inputs(in),
      place(where),
      block(step_block(in.rule, in.grid, where.multiprocessors)),
      moments(moment_block(in.rule, in.grid, where.multiprocessors)),
      shape(make_shape(in.rule, in.grid, block.cells)),
      moment_shape(make_shape(in.rule, in.grid, moments.cells)),
      alive(in.rule.alive.channel >= 0),
      batch_norm(has_batch_moments(in.rule.norm)),
      norm_steps(plan_norm_steps(in, where)) {
  const Shape& s = shape;
  with_precision(place.precision, [&](auto precision) {
    step_blocks_ = resident(step_kernel_of<precision()>(s), place, block, s.all_tiles);
  });
  weights.filters = arena.take<float>(int64_t{s.taps} * s.filters * s.channels4);
  weights.filter_bias = arena.take<float>(int64_t{s.filters} * s.channels4);
  weights.first = arena.take<float>(int64_t{s.hidden32} * s.perception_row);
  weights.first_bias = arena.take<float>(s.hidden32);
  weights.update = arena.take<float>(int64_t{s.channels8} * s.hidden_row);
  weights.update_bias = arena.take<float>(s.channels8);
  spare = tape_at(in.rule, in.grid, arena.take<uint8_t>(tape_bytes(in.rule, in.grid)));
  weights.centre = arena.take<float>(batch_norm ? s.perception16 : 0);
  tree_ = take_tree(tree_blocks(), moment_part(s), arena);
  raw_ = arena.take<float>(alive ? floats() : 0);
  before_ = arena.take<uint8_t>(alive && in.rule.alive.pre ? s.batch * s.cells : 0);
}

void Stepper::prepare() const {
  if (batch_norm)
    memset_async(weights.centre, 0, sizeof(float) * static_cast<size_t>(shape.perception16), place.stream);
  clear_tickets(tree_, tree_blocks(), place.stream);
  launch(cuda::prepare, dim3(32), dim3(256), 0, place.stream,
         Preparation{shape, rounds_to_tf32(place.precision), inputs.rule, inputs.parameters, weights});
}

// Two on a multiprocessor: fixed, so that the workspace can be counted before anything runs.
int Stepper::moment_blocks() const {
  const int64_t most = 2 * int64_t{place.multiprocessors};
  return static_cast<int>(moment_shape.all_tiles < most ? moment_shape.all_tiles : most);
}

int Stepper::tree_blocks() const {
  return batch_norm ? std::max(moment_blocks(), static_cast<int>(norm_steps.blocks)) : 0;
}

void Stepper::measure(int64_t t, const States<const float>& from, const Tape& tape, float* stats) const {
  const bool narrow = shape.perception16 <= 8 * narrow_blocks8;
  const auto kernel =
      moment_precision(place.precision) == Precision::tf32
          ? (narrow ? sum_moments<Precision::tf32, narrow_blocks8> : sum_moments<Precision::tf32, wide_blocks8>)
          : (narrow ? sum_moments<Precision::tf32x3, narrow_blocks8> : sum_moments<Precision::tf32x3, wide_blocks8>);
  // Before the first step no mean is known to sum about.
  for (int round = t == 0 ? 0 : 1; round < 2; ++round)
    launch_dependent(kernel, dim3(static_cast<unsigned>(moment_blocks())), dim3(moment_threads),
                     static_cast<size_t>(moments.bytes), place.stream,
                     Moments{moment_shape, from, weights, extra(t), measuring(tape, stats)});
}

Measuring Stepper::measuring(const Tape& tape, float* stats) const {
  return {inputs.parameters.hidden[0], tree_, weights.centre, tape.mean, tape.moment, tape.inverse,
          inputs.rule.norm_eps,        stats};
}

Folding Stepper::folding(const Tape& tape) const {
  return {rounds_to_tf32(place.precision), inputs.parameters.hidden[0], tape.inverse};
}

Weights Stepper::weights_of(const Tape& tape) const {
  Weights there = weights;
  there.centre = tape.mean;
  return there;
}

Extra<const float> Stepper::extra(int64_t t) const {
  Extra<const float> here = inputs.extra;
  if (here.values) here.values += t * here.step_stride;
  return here;
}

Activity activity_of(const Inputs& in, int64_t t, const uint8_t* wanted) {
  Activity a{};
  a.wanted = wanted;
  a.limit = in.rule.fire_limit;
  a.step = static_cast<uint32_t>(in.plan.first_step + t);
  a.first_sample = static_cast<uint32_t>(in.plan.first_sample);
  if (in.fire.mask) {
    a.mask = in.fire.mask + t * in.fire.step_stride;
    a.mask_sample = in.fire.sample_stride;
  } else if (in.rule.fire_limit >> 32 == 0) {
    a.seed = in.fire.seed;
  }
  return a;
}

Life Stepper::life(uint8_t* tape) const {
  Life life{inputs.rule.alive, {}, before_, spare.lives, 0};
  for (int a = 0; a < 3; ++a) life.window[a] = alive && shape.size[a] > 1 ? inputs.rule.alive.pool : 1;
  if (tape) {
    life.lives = tape_at(inputs.rule, inputs.grid, tape).lives;
    life.lives_step = tape_bytes(inputs.rule, inputs.grid);
  }
  return life;
}

void Stepper::run(int64_t t, const States<const float>& from, const States<float>& to, const Tape& tape) const {
  const States<float> raw = channels_last(raw_, shape);
  LifePass<float> pass{shape, life(nullptr), from, read_only(raw), to};
  pass.life.lives = tape.lives;
  const dim3 grid(blocks_of(shape.batch * shape.cells, life_threads));
  if (alive && inputs.rule.alive.pre) launch_dependent(living<float>, grid, dim3(life_threads), 0, place.stream, pass);
  with_precision(place.precision, [&](auto precision) {
    launch_dependent(step_kernel_of<precision()>(shape), dim3(step_blocks_), dim3(static_cast<unsigned>(block.threads)),
                     static_cast<size_t>(block.bytes), place.stream,
                     Step{shape,
                          from,
                          alive ? raw : to,
                          activity_of(inputs, t, nullptr),
                          weights_of(tape),
                          extra(t),
                          pass.life,
                          folding(tape),
                          t > 0,
                          1,
                          {},
                          0,
                          {}});
  });
  if (alive) launch_dependent(settle<float>, grid, dim3(life_threads), 0, place.stream, pass);
}

bool Stepper::can_be_whole() const { return batch_norm ? norm_steps.blocks > 0 : inputs.plan.steps > 1; }

// Model: 2 us between launches against 1 to 1.5 us of a grid's barrier, and no weights to fetch again, 35 KB a block at
// C = 16, H = 128. Growing NCA's 8 x 72^2 with an alive mask: 3 x 1.3 + 2.3 us a step in place of 3 x 2 + 2.3;
// Med-NCA's coarse level, 80^2 with batch norm: 2 x 1.3 + 3 in place of 2 x 2 + 3. Larger grids gain nothing that
// counts. Unverified on hardware.
bool Stepper::should_be_whole() const {
  if (!can_be_whole()) return false;
  return batch_norm ? norm_steps.shape.all_tiles <= norm_steps.blocks : shape.all_tiles <= step_blocks_;
}

void Stepper::run_all(const Turns& turns, uint8_t* tape, float* stats) const {
  const Tape first = tape ? tape_at(inputs.rule, inputs.grid, tape) : spare;
  const int64_t tape_step = tape ? tape_bytes(inputs.rule, inputs.grid) / static_cast<int64_t>(sizeof(float)) : 0;
  const Step step{batch_norm ? norm_steps.shape : shape,
                  turns.before(shape, 0),
                  alive ? channels_last(raw_, shape) : turns.after(shape, 1),
                  activity_of(inputs, 0, nullptr),
                  weights,
                  extra(0),
                  life(tape),
                  folding(first),
                  false,
                  inputs.plan.steps,
                  turns,
                  inputs.fire.step_stride,
                  {measuring(first, stats), tape_step}};
  if (batch_norm) return launch_norm_steps(norm_steps, place, step);
  with_precision(place.precision, [&](auto precision) {
    launch_cooperative(step_kernel_of<precision()>(shape), dim3(step_blocks_),
                       dim3(static_cast<unsigned>(block.threads)), static_cast<size_t>(block.bytes), place.stream,
                       step);
  });
}

void Stepper::change_layout(const States<const float>& from, const States<float>& to, bool adds) const {
  launch_dependent(cuda::change_layout<float>,
                   dim3(static_cast<unsigned>(shape.batch * ((shape.cells + layout_cells - 1) / layout_cells))),
                   dim3(layout_threads), 0, place.stream, Layout<float>{shape, from, to, adds});
}

const char* refuse(const Rule& rule, const Grid& grid, StateType state, Precision) {
  thread_local std::string reason;
  const int64_t cells = grid.size[0] * grid.size[1] * grid.size[2];
  reason.clear();
  if (cells > most_sample_cells || make_shape(rule, grid, 32).all_tiles > most_sample_cells) {
    reason = "a grid of " + std::to_string(grid.batch) + " x " + std::to_string(cells) +
             " cells: kernels count at most 2^30 in a sample and 2^30 tiles";
  } else if (is_layered(rule, state)) {
    reason = refuse_layers(rule, grid, state);
  } else if (step_block(rule, grid, 1).bytes == 0 || mlp_block(rule, grid, 1, false).bytes == 0 ||
             (has_batch_moments(rule.norm) && moment_block(rule, grid, 1).bytes == 0)) {
    reason = "a tile with these filters and weights needs more shared memory than a block of this GPU has";
  }
  return reason.empty() ? nullptr : reason.c_str();
}

namespace {

// The wanted way where it is possible, else the quickest by the model. `chip` is what a way on chip then needs.
Way choose_way(const Stepper& stepper, Way wanted, ChipPlan& chip) {
  const Inputs& in = stepper.inputs;
  const Place& place = stepper.place;
  if (in.plan.steps == 0) return Way::steps;
  switch (wanted) {
    case Way::steps:
      return Way::steps;
    case Way::cooperative:
      if (stepper.can_be_whole()) return Way::cooperative;
      break;
    case Way::on_chip:
    case Way::quickest:
      break;
  }
  const bool whole = stepper.should_be_whole();
  const Shape& s = stepper.shape;
  const double cell = cell_time(s, place.precision, fire_rate_of(in.rule));
  const double apart =
      step_time(s, in.rule.alive, place.multiprocessors, cell, whole ? grid_barrier_time : launch_time);
  chip = chip_plan(in, place);
  const bool on_chip =
      chip.parts > 0 && (wanted == Way::on_chip || chip_time(chip.shape, in.rule.alive, chip.clusters, cell) < apart);
  return on_chip ? Way::on_chip : whole ? Way::cooperative : Way::steps;
}

}  // namespace

Went forward(const Inputs& in, Precision precision, int multiprocessors, Way wanted, void* out, void* history,
             float* stats, uint8_t* tape, void* workspace, void* stream) {
  if (is_layered(in.rule, in.state)) {
    layers_forward(in, Place{precision, multiprocessors, stream}, out, history, tape, workspace);
    return {Way::steps, 0};
  }
  Arena arena(workspace);
  const Stepper stepper(in, Place{precision, multiprocessors, stream}, arena);
  const Shape& s = stepper.shape;
  const Turns turns{static_cast<const float*>(in.x), static_cast<float*>(out), arena.take<float>(stepper.floats()),
                    static_cast<float*>(history), in.plan};
  const int64_t steps = in.plan.steps, step_bytes = tape_bytes(in.rule, in.grid);
  if (s.all_tiles == 0) {  // no cells have no statistics
    if (stepper.batch_norm) memset_async(stats, 0, sizeof(float) * 2 * static_cast<size_t>(steps * s.hidden), stream);
    return {Way::steps, 0};
  }
  stepper.prepare();
  ChipPlan chip{};
  const Way way = choose_way(stepper, wanted, chip);
  switch (way) {
    case Way::on_chip:
      run_on_chip(chip, stepper, turns, stepper.life(tape));
      return {way, static_cast<int>(chip.parts)};
    case Way::cooperative:
      stepper.run_all(turns, tape, stats);
      break;
    case Way::steps:
      for (int64_t t = 0; t < steps; ++t) {
        const Tape here = tape ? tape_at(in.rule, in.grid, tape + t * step_bytes) : stepper.spare;
        if (stepper.batch_norm) stepper.measure(t, turns.before(s, t), here, stats + 2 * t * s.hidden);
        stepper.run(t, turns.before(s, t), turns.after(s, t + 1), here);
      }
      break;
    case Way::quickest:  // no choice
      unreachable();
  }
  if (steps == 0 || turns.keeps(steps))
    stepper.change_layout(turns.before(s, steps), channels_first(turns.out, s), false);
  return {way, 0};
}

}  // namespace ncafast::cuda
