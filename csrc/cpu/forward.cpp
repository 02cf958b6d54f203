// The whole rollout forward: states go straight into the history, channels last, or into two buffers in turn.
#include <algorithm>
#include <cstring>

#include "engine.h"

namespace ncafast::cpu {

void forward(const Inputs& in, int threads, float* out, float* history, float* stats, uint8_t* tape) {
  Engine engine(in, threads);
  const int64_t batch = in.grid.batch, C = in.rule.channels, N = engine.geometry.cells, size = batch * N * C;
  const Plan& plan = in.plan;
  Floats buffers[2] = {Floats(size, false), Floats(size, false)};
  to_channels_last(in.x, buffers[0].data(), batch, C, N, threads);
  const float* x = buffers[0].data();

  // Where no tape is kept, moments still need a place from one half of the step to the other.
  const int64_t bytes = tape_bytes(in.rule, in.grid);
  Floats own(tape ? 0 : (bytes + 3) / 4);
  uint8_t* own_tape = reinterpret_cast<uint8_t*>(own.data());
  for (int64_t t = 0; t < plan.steps; ++t) {
    const int64_t number = t + 1;
    const bool kept = plan.every && number % plan.every == 0 && number / plan.every <= plan.kept;
    float* next = kept ? history + (number / plan.every - 1) * size : buffers[x == buffers[0].data()].data();
    const StepTape here = tape ? tape_at(in.rule, in.grid, tape, t) : tape_at(in.rule, in.grid, own_tape, 0);
    engine.step(t, x, next, here);
    if (engine.batch_norm) {
      const int64_t H = in.rule.hidden[0];
      std::copy_n(engine.hidden_mean.data(), H, stats + 2 * t * H);
      std::copy_n(engine.hidden_var.data(), H, stats + (2 * t + 1) * H);
    }
    x = next;
  }
  to_channels_first(x, out, batch, C, N, threads);
}

}  // namespace ncafast::cpu
