// Rules beyond what step.cuh keeps in shared memory: several or wide hidden layers, dense perception, many channels. In
// short: layered rules. Every rule whose states have half precision is one of them: see stored.cuh. Weights stay in
// device memory, where every warp reads those of its own outputs; shared memory holds a tile and the activations of
// some of its cells. See layers.cuh.
#pragma once

#include <string>

#include "../rollout.h"
#include "rollout.h"
#include "shape.h"

namespace ncafast::cuda {

constexpr int most_width = 256;          // of a hidden layer and of a dense perception
constexpr int most_seen = 512;           // the perception
constexpr int layer_threads = 256;       // of a block
constexpr int layer_units = most_width;  // outputs of a product that a block holds in registers

// The parameters as kernels read them: rows of outputs, as long as there are terms; both multiples of 16, the padding
// 0.
struct LayerWeights {
  float *filters, *filter_bias;           // as in Weights
  float *dense, *dense_bias;              // [dense16, taps * channels16], [dense16]
  float* hidden[max_hidden_layers];       // [width, inputs], a norm folded in
  float* hidden_bias[max_hidden_layers];  // [width]
  float *update, *update_bias;            // [channels16, width of the last layer], [channels16]
  float* hidden_back[max_hidden_layers];  // backward: [inputs, width]; of the first one [perception16 + 16, width]
  float *update_back, *dense_back;        // backward: [width of the last layer, channels16], [channels16, taps *
                                          // dense16]
};

struct Layers {
  int count;                     // hidden layers
  int width[max_hidden_layers];  // of each, a multiple of 16
  int inputs[max_hidden_layers];
  int channels16, dense16;
  int rows, row;  // cells of a pass; floats of each, 16 more than a multiple of 32: rows lie half of all banks apart
  Activation dense_activation;
  float dense_slope;
  LayerWeights weights;
};

// Whether a rule is beyond the other kernels, or its states are: those have float32 alone.
bool is_layered(const Rule& rule, StateType state);

// Why a layered rule has no kernels, empty where it has.
std::string refuse_layers(const Rule& rule, const Grid& grid, StateType state);

// Of layered rules: as the functions of these names in csrc/rollout.h.
int64_t layers_workspace(const Inputs& inputs, Precision precision, const Gradients* gradients, int multiprocessors);
std::vector<Launch> layers_launches(const Rule& rule, const Grid& grid, bool fixed, int multiprocessors);
void layers_forward(const Inputs& inputs, const Place& place, void* out, void* history, uint8_t* tape, void* workspace);
void layers_backward(const Inputs& inputs, const Place& place, const void* history, const uint8_t* tape,
                     const void* grad_out, const void* grad_history, const Gradients& gradients, void* workspace);

}  // namespace ncafast::cuda
