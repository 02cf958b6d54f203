// The contract between the Python side and every kernel: plain structs, raw pointers, 64-bit
// offsets. No torch, no Python: one binary serves every torch version.
//
// All arguments were checked before they come here; kernels assert nothing. Shapes stand behind
// the members: B samples, C channels, *S three axes (leading ones are 1), P perception size,
// H hidden width, F filters, M mutable channels, E extra channels, T steps. Arrays are contiguous
// and float32 unless they say otherwise.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ncafast {

// The order is that of the name tuples in ncafast/rule.py.
enum class Padding : int32_t { zeros, reflect, replicate, circular };
enum class Activation : int32_t { relu, leaky_relu, elu, gelu, silu, tanh, identity };
enum class Norm : int32_t { none, batch, running, group, instance, layer };

// Elements of states in memory; kernels compute in float32. The order is that of STATES in
// ncafast/backends/native_call.py.
enum class StateType : int32_t { float32, float16, bfloat16 };

constexpr int max_hidden_layers = 4;

// The part of a grid that one call works on, and where it lies in the whole. Random numbers go by
// the cell's row-major place in the whole grid, so a tile draws what the whole would.
struct Grid {
  int64_t batch;
  int64_t size[3];    // cells here
  int64_t whole[3];   // cells of the whole grid
  int64_t origin[3];  // of this part in the whole grid
};

// Cells [start, stop) per axis.
struct Box {
  int64_t start[3], stop[3];
};

struct Alive {
  int32_t channel;  // negative: no alive mask
  int32_t pool;     // window, cells per axis
  bool pre, post;
  float threshold;
  bool wraps;         // the window goes on at the other side of the grid
  bool gates_update;  // dead cells do not update; otherwise they become 0
};

struct Clamp {
  float lo, hi;  // -infinity and infinity: no clamp
};

// One step, as ncafast.Rule says it.
struct Rule {
  int32_t channels;   // C
  int32_t filters;    // F, or the outputs of the dense convolution
  int32_t extra;      // E
  int32_t kernel[3];  // odd; 1 on the leading axes that are not there
  bool identity;      // the state itself is the first part of the perception
  bool dense;         // full convolution instead of filters per channel
  int32_t layers;     // hidden layers, at most max_hidden_layers
  int32_t hidden[max_hidden_layers];
  int32_t mutable_lo, mutable_hi;  // channels that the update changes
  int32_t restore_lo, restore_hi;  // channels set back after the step; equal: none
  Padding padding;
  Activation activation, dense_activation, update_activation;
  Norm norm;
  int32_t norm_groups;  // of hidden units, under group norm
  float negative_slope;
  float norm_eps;
  int32_t pooled_lo, pooled_hi;  // channels whose mean or largest value every cell sees; equal: none
  bool pools_max;
  float update_scale;   // step size, divided by the fire rate where the rule rescales
  uint64_t fire_limit;  // floor(fire rate * 2^32); 2^32 draws nothing
  uint64_t keep_limit;  // the same of the hidden units that dropout keeps
  float keep_scale;     // of those units, 1 / (1 - dropout)
  Alive alive;
  Clamp clamp;  // of the state at the end of a step
};

// Parameters (T = const float) and their gradients (T = float). A tensor that the rule does not
// have, or whose gradient nobody wants, is null.
template <class T>
struct Layer {
  T* weight;        // [H, P], or [H, previous H]
  T* bias;          // [H]
  T* norm_weight;   // [H]
  T* norm_bias;     // [H]
  T* running_mean;  // [H]
  T* running_var;   // [H]
};

template <class T>
struct Parameters {
  T* filters;      // [F, C, *k] depthwise and dense alike
  T* filter_bias;  // [F, C], dense [F]
  Layer<T> hidden[max_hidden_layers];
  T* update_weight;  // [M, H]
  T* update_bias;    // [M]
};

// Channels beside the state. A stride of 0 repeats the same values along that axis.
template <class T>
struct Extra {
  T* values;  // [T or 1, B or 1, E, *(S or 1)], null when E is 0
  int64_t step_stride, sample_stride, channel_stride, axis_stride[3];
};

// Which cells fire: drawn from the seed, or handed in by the caller.
struct Fire {
  const uint64_t* seed;  // [1], on the device of the kernel
  const uint8_t* mask;   // [T, B or 1, *S] 0 or 1, null to draw it
  int64_t step_stride, sample_stride;
};

// What a call does besides the rule, as ncafast.backends.plan.Plan says it.
struct Plan {
  int64_t steps;         // T
  int64_t first_step;    // absolute number of the first step
  int64_t first_sample;  // place of sample 0 in the whole batch
  int64_t every, kept;   // states x_every, x_(2 every), ... go into the history
};

// All that a rollout reads, forward and backward.
struct Inputs {
  Grid grid;
  Rule rule;
  Plan plan;
  bool bf16;  // CPU: the operands of the MLP's products are bfloat16
  Fire fire;
  Parameters<const float> parameters;
  Extra<const float> extra;
  StateType state;
  const void* x;  // [B, C, *S] of that type
};

// All that the backward writes; a null pointer is a gradient nobody wants.
struct Gradients {
  Parameters<float> parameters;
  Extra<float> extra;
  void* x;  // [B, C, *S] of the states' type
};

namespace cpu {

// Draws the cells [first_cell, first_cell + cells) of the whole grid, for samples [first_sample,
// first_sample + batch): 1 where a cell updates.
void fire_mask(uint8_t* mask,  // [batch, cells]
               int64_t first_sample, int64_t batch, int64_t first_cell, int64_t cells, uint64_t seed, uint32_t step,
               uint64_t fire_limit);

// Draws the cells of a part of a grid for `steps` steps. Where the part reaches past an edge, its cells are those at
// the other side.
void fire_masks(uint8_t* mask,  // [T, batch, *size]
                int64_t steps, uint64_t seed, int64_t first_step, int64_t first_sample, uint64_t fire_limit,
                const Grid& grid);

// Sums of the perception y of the cells of `core` over the samples of a set: of y - shift, and of its product with its
// transpose. There is one set, or one per sample. The rule has no measured norm and no pooled channels.
void sums_of_part(const Inputs& inputs, int threads, const Box& core, int64_t sets,
                  const float* shift,  // [sets, P]
                  double* first,       // [sets, P]
                  double* second);     // [sets, P, P]

// States between steps are channels last, [B, *S, C]. The tape is what else backward will want of a step (moments
// of the perception, alive cells, numbers that a clamp lets pass): tape_bytes a step, or null where no backward will
// follow.
int64_t tape_bytes(const Rule& rule, const Grid& grid);

void forward(const Inputs& inputs, int threads,
             float* out,      // [B, C, *S]
             float* history,  // [kept, B, *S, C]
             float* stats,    // [T, 2, H] mean and variance of the hidden layer under batch norm
             uint8_t* tape);  // [T, tape_bytes] or null

void backward(const Inputs& inputs, int threads,
              const float* history,       // [kept, B, *S, C]
              uint8_t* tape,              // [T, tape_bytes], read only
              const float* grad_out,      // [B, C, *S] or null
              const float* grad_history,  // [kept, B, C, *S] or null
              const Gradients& gradients);

// Sets what forward and backward call between steps, about ten times a second, in the thread that called them or that
// runs a member. It throws to end the rollout. Nothing is called at first.
void between_steps(void (*check)());

const char* instruction_set();  // the kernels that run on this processor: avx512, avx2 or portable

const char* refuse_bf16();  // why no call can have Inputs::bf16 on this processor, or null

// Those that can run on it, the best first.
std::vector<std::string> instruction_sets();

// Ceilings, one loop on every thread. They return how much was done; the caller takes the time.
int64_t multiply_add(const std::string& set, int threads,
                     int64_t rounds);  // operations; 0 for a set that cannot run; "bf16" is one here
int64_t copy(int threads, int64_t bytes, int64_t rounds);  // bytes read and written; two buffers fill `bytes` a thread

}  // namespace cpu

namespace cuda {

// How the operands of matrix products are rounded; sums are float32 always. The order is that of PRECISIONS in
// ncafast/backends/precision.py.
enum class Precision : int32_t { ieee, tf32, tf32x3, bf16 };

// How a rollout forward is launched; no way can take all rules and grids. The order is that of WAYS in
// ncafast/backends/cuda.py.
enum class Way : int32_t {
  steps,        // kernels for every step
  cooperative,  // one launch for all steps, whose blocks meet at a barrier of the grid
  on_chip,      // one launch for all steps, a sample in the shared memory of a cluster
  quickest      // of those, by a model
};

struct Went {
  Way way;
  int parts;  // blocks of a cluster, where it was on chip
};

// All pointers are the device's, the seed's included: nothing here waits for the device, nothing is allocated, and a
// call can be captured into a CUDA graph. The caller gives `workspace` and the number of the device's
// `multiprocessors`. A launch that fails throws std::runtime_error with CUDA's words.

// Why no kernel instance covers this rule and grid with such states, or null.
const char* refuse(const Rule& rule, const Grid& grid, StateType state, Precision precision);

int64_t tape_bytes(const Rule& rule, const Grid& grid);  // a step

// A kernel that takes a step from tile to tile: cells of a tile per axis, tiles, and a block's threads and bytes of
// shared memory.
struct Launch {
  const char* kernel;
  int box[3];
  int64_t tiles;
  int threads;
  int64_t bytes;
};

// Those of a step forward and backward with float32 states, for cuda/MODEL.md; `fixed`: filters and extra channels get
// no gradient.
std::vector<Launch> launches(const Rule& rule, const Grid& grid, bool fixed, int multiprocessors);

// Of forward, or of backward for these gradients: which are wanted decides what it keeps.
int64_t workspace_bytes(const Inputs& inputs, Precision precision, const Gradients* gradients, int multiprocessors);

// Shapes as in namespace cpu; states between steps are channels last, [B, *S, C]. States and their gradients, `void`
// here, are of the type that the inputs name. Goes the `wanted` way where that is
// possible, else the quickest, and says which.
Went forward(const Inputs& inputs, Precision precision, int multiprocessors, Way wanted,
             void* out,      // [B, C, *S]
             void* history,  // [kept, B, *S, C]
             float* stats,   // [T, 2, H] mean and variance of the hidden layer under batch norm
             uint8_t* tape,  // [T, tape_bytes] or null
             void* workspace, void* stream);

// Whether dL/dy of the perception stayed on the chip instead of going through memory.
bool backward(const Inputs& inputs, Precision precision, int multiprocessors,
              const void* history,       // [kept, B, *S, C]
              const uint8_t* tape,       // [T, tape_bytes]
              const void* grad_out,      // [B, C, *S] or null
              const void* grad_history,  // [kept, B, C, *S] or null
              const Gradients& gradients, void* workspace, void* stream);

}  // namespace cuda
}  // namespace ncafast
