// Layered rules on the host: which there are, sizes of launches, a step, and the rollout forward.
#include <algorithm>

#include "../kinds.h"
#include "launches.h"
#include "layer_steps.h"
#include "layers.cuh"
#include "layers_weights.cuh"
#include "layout.cuh"

namespace ncafast::cuda {
namespace {

int64_t perception_of(const Rule& rule) {
  const int64_t seen = rule.dense ? rule.filters : int64_t{rule.filters} * rule.channels;
  return (rule.identity ? rule.channels : 0) + seen + rule.extra;
}

std::string too_many(int64_t found, const char* of, int most) {
  return std::to_string(found) + of + ": at most " + std::to_string(most) + " have kernels";
}

void take_weights(const Shape& s, bool backward, Arena& arena, Layers& l) {
  LayerWeights& to = l.weights;
  const int last = l.width[l.count - 1];
  to.filters = arena.take<float>(int64_t{s.taps} * s.filters * s.channels4);
  to.filter_bias = arena.take<float>(int64_t{s.filters} * s.channels4);
  to.dense = arena.take<float>(int64_t{l.dense16} * s.taps * l.channels16);
  to.dense_bias = arena.take<float>(l.dense16);
  for (int i = 0; i < l.count; ++i) {
    to.hidden[i] = arena.take<float>(int64_t{l.width[i]} * l.inputs[i]);
    to.hidden_bias[i] = arena.take<float>(l.width[i]);
    to.hidden_back[i] = arena.take<float>(backward * int64_t{l.width[i]} * (l.inputs[i] + 16));
  }
  to.update = arena.take<float>(int64_t{l.channels16} * last);
  to.update_bias = arena.take<float>(l.channels16);
  to.update_back = arena.take<float>(backward * int64_t{l.channels16} * last);
  to.dense_back = arena.take<float>(backward * int64_t{l.channels16} * s.taps * l.dense16);
}

}  // namespace

bool is_layered(const Rule& rule, StateType state) {
  return state != StateType::float32 || rule.layers != 1 || rule.dense || rule.channels > most_channels ||
         rule.hidden[0] > most_hidden || perception_of(rule) > most_perception;
}

std::string refuse_layers(const Rule& rule, const Grid& grid, StateType state) {
  if (has_batch_moments(rule.norm) && state != StateType::float32)
    return std::string("batch norm has no kernels for states of ") + name_of(state);
  if (has_batch_moments(rule.norm))
    return "batch norm has kernels only for one hidden layer of at most " + std::to_string(most_hidden) + ", " +
           std::to_string(most_channels) + " channels, and filters per channel with a perception of at most " +
           std::to_string(most_perception);
  if (rule.channels > most_state_channels) return too_many(rule.channels, " channels", most_state_channels);
  if (rule.dense && rule.filters > most_width)
    return too_many(rule.filters, " outputs of a dense convolution", most_width);
  for (int i = 0; i < rule.layers; ++i)
    if (rule.hidden[i] > most_width) return "a hidden layer of " + too_many(rule.hidden[i], "", most_width);
  if (perception_of(rule) > most_seen) return "a perception of " + too_many(perception_of(rule), "", most_seen);
  if (layer_block(rule, grid, 1).bytes == 0)
    return "a tile with these filters needs more shared memory than a block of this GPU has";
  return {};
}

Layers layers_of(const Rule& rule, int rows) {
  Layers l{};
  l.count = rule.layers;
  l.channels16 = round_up_int(rule.channels, 16);
  l.dense16 = rule.dense ? round_up_int(rule.filters, 16) : 0;
  int inputs = round_up_int(static_cast<int>(perception_of(rule)), 16);
  int widest = std::max(l.channels16, std::max(l.dense16, inputs));
  for (int i = 0; i < rule.layers; ++i) {
    l.inputs[i] = inputs;
    l.width[i] = inputs = round_up_int(rule.hidden[i], 16);
    widest = std::max(widest, inputs);
  }
  l.rows = rows;
  l.row = round_up_int(widest, 32) + 16;
  l.dense_activation = rule.dense_activation;
  l.dense_slope = slope_of(rule.dense_activation, rule.negative_slope);
  return l;
}

Shape layer_shape(const Rule& rule, const Grid& grid, int cells) {
  Shape s = make_shape(rule, grid, cells);
  s.perception_row = layers_of(rule, 0).row;
  return s;
}

// Weights come from the L2 once for every pass: 256 KB for a layer of 256 x 256, 6 us of its bandwidth on an H200 where
// 64 rows are 3 us of TF32 products. So the rows come before the room for a second block. Model, unverified on
// hardware.
LayerBlock layer_block(const Rule& rule, const Grid& grid, int multiprocessors) {
  const int cells = tile_cells(grid, multiprocessors, 128);
  const LayerBlock sizes[] = {
      {cells, 64, 0}, {std::min(cells, 64), 64, 0}, {std::min(cells, 64), 32, 0}, {32, 32, 0}, {32, 16, 0}};
  for (LayerBlock size : sizes) {
    Arena arena(nullptr);
    LayerMemory(layer_shape(rule, grid, size.cells), layers_of(rule, size.rows), arena);
    size.bytes = arena.bytes();
    if (size.bytes <= shared_memory_limit()) return size;
  }
  return {0, 0, 0};
}

template <class T>
LayerSteps<T>::LayerSteps(const Inputs& in, const Place& where, bool back, Arena& arena)
    : inputs(in),
      place(where),
      backward(back),
      block(layer_block(in.rule, in.grid, where.multiprocessors)),
      shape(layer_shape(in.rule, in.grid, block.cells)),
      layers(layers_of(in.rule, block.rows)) {
  with_precision(place.precision, [&](auto precision) {
    blocks_ = resident(layers_step<precision()>, place, {block.cells, layer_threads, block.bytes}, shape.all_tiles);
  });
  take_weights(shape, backward, arena, layers);
  raw_ = arena.take<T>(shape.settles ? count() : 0);
  before_ = arena.take<uint8_t>(shape.settles && in.rule.alive.pre ? shape.batch * shape.cells : 0);
  lives_ = arena.take<uint8_t>(shape.settles ? shape.batch * shape.cells : 0);
}

template <class T>
void LayerSteps<T>::prepare() const {
  launch(prepare_layers, dim3(64), dim3(256), 0, place.stream,
         LayersPreparation{shape, layers, rounds_to_tf32(place.precision), backward, inputs.rule, inputs.parameters});
}

template <class T>
Extra<const float> LayerSteps<T>::extra(int64_t t) const {
  Extra<const float> here = inputs.extra;
  if (here.values) here.values += t * here.step_stride;
  return here;
}

template <class T>
void LayerSteps<T>::run(int64_t t, const States<const T>& from, const States<T>& to, uint8_t* lives) const {
  const States<T> raw = channels_last(raw_, shape);
  LifePass<T> pass{shape, {inputs.rule.alive, {}, before_, lives ? lives : lives_, 0}, from, read_only(raw), to};
  for (int a = 0; a < 3; ++a) pass.life.window[a] = shape.settles && shape.size[a] > 1 ? inputs.rule.alive.pool : 1;
  const dim3 grid(blocks_of(shape.batch * shape.cells, life_threads));
  if (shape.settles && inputs.rule.alive.pre)
    launch_dependent(living<T>, grid, dim3(life_threads), 0, place.stream, pass);
  with_precision(place.precision, [&](auto precision) {
    launch_dependent(layers_step<precision()>, dim3(blocks_), dim3(layer_threads), static_cast<size_t>(block.bytes),
                     place.stream,
                     LayersStep{shape, layers, stored(from), stored(shape.settles ? raw : to),
                                activity_of(inputs, t, nullptr), extra(t), pass.life});
  });
  if (shape.settles) launch_dependent(settle<T>, grid, dim3(life_threads), 0, place.stream, pass);
}

template <class T>
void LayerSteps<T>::change_layout(const States<const T>& from, const States<T>& to, bool adds) const {
  launch_dependent(cuda::change_layout<T>,
                   dim3(static_cast<unsigned>(shape.batch * ((shape.cells + layout_cells - 1) / layout_cells))),
                   dim3(layout_threads), 0, place.stream, Layout<T>{shape, from, to, adds});
}

template class LayerSteps<float>;
template class LayerSteps<Float16>;
template class LayerSteps<Bfloat16>;

namespace {

template <class T>
void forward_of(const Inputs& in, const Place& place, T* out, T* history, uint8_t* tape, void* workspace) {
  Arena arena(workspace);
  const LayerSteps<T> steps(in, place, false, arena);
  const Shape& s = steps.shape;
  if (s.all_tiles == 0) return;
  const TurnsOf<T> turns{static_cast<const T*>(in.x), out, arena.take<T>(steps.count()), history, in.plan};
  const int64_t last = in.plan.steps;
  steps.prepare();
  for (int64_t t = 0; t < last; ++t)
    steps.run(t, turns.before(s, t), turns.after(s, t + 1),
              tape ? tape_at(in.rule, in.grid, tape + t * tape_bytes(in.rule, in.grid)).lives : nullptr);
  if (last == 0 || turns.keeps(last)) steps.change_layout(turns.before(s, last), channels_first(out, s), false);
}

}  // namespace

void layers_forward(const Inputs& in, const Place& place, void* out, void* history, uint8_t* tape, void* workspace) {
  with_state(in.state, [&](auto zero) {
    using T = decltype(zero);
    forward_of(in, place, static_cast<T*>(out), static_cast<T*>(history), tape, workspace);
  });
}

}  // namespace ncafast::cuda
