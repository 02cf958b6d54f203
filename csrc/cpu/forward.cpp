// The whole rollout forward. States are written where they are wanted, in the history or, as the last one, in the
// result, whose memory the states in between use too: there a step is taken in place.
#include <algorithm>

#include "engine.h"
#include "stop.h"
#include "turn.h"

namespace ncafast::cpu {

void forward(const Inputs& in, int threads, float* out, float* history, float* stats, uint8_t* tape) {
  Engine engine(in, useful_threads(in.grid, threads));
  const int64_t size = engine.size();
  const Plan& plan = in.plan;
  use_large_pages(history, 4 * plan.kept * size);
  use_large_pages(out, 4 * size);
  engine.put_channels_last(static_cast<const float*>(in.x), out);

  // Where no tape is kept, moments still need a place from one half of the step to the other.
  const int64_t bytes = tape_bytes(in.rule, in.grid);
  Floats own(tape ? 0 : (bytes + 3) / 4);
  uint8_t* own_tape = reinterpret_cast<uint8_t*>(own.data());
  const float* x = out;
  for (int64_t t = 0; t < plan.steps; ++t) {
    const StepTape here = tape ? tape_at(in.rule, in.grid, tape, t) : tape_at(in.rule, in.grid, own_tape, 0);
    if (tape && bytes) std::fill_n(tape + (t + 1) * bytes - 4, 4, uint8_t{0});  // its padding: equal runs, equal tapes
    const int64_t number = t + 1;
    const bool keep = plan.every && number % plan.every == 0 && number / plan.every <= plan.kept;
    float* next = keep ? history + (number / plan.every - 1) * size : out;
    may_stop();
    engine.step(t, x, next, here);
    x = next;
    if (has_batch_moments(in.rule.norm)) {
      const int64_t H = in.rule.hidden[0];
      std::copy_n(engine.folds[0].mean.data(), H, stats + 2 * t * H);
      std::copy_n(engine.folds[0].var.data(), H, stats + (2 * t + 1) * H);
    }
  }
  if (x == out)
    turn_channels_first(out, in.grid.batch, engine.geometry.cells, in.rule.channels, engine.threads);
  else
    engine.put_channels_first(x, out);
}

}  // namespace ncafast::cpu
