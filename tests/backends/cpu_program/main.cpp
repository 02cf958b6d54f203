// The CPU backend as a program: it reads a call from the standard input, runs it, and writes the results to the
// standard output. So the kernels run where there is no Python, such as in an emulator of another processor.
//
// Structs are filled as bind.h does, by the same names.
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "call.h"
#include "rollout.h"

namespace ncafast {
namespace {

Rule read_rule(Call& call) {
  Rule rule{};
  rule.channels = call.number("channels");
  rule.filters = call.number("filters");
  rule.extra = call.number("extra");
  const std::vector<double> kernel = call.numbers("kernel"), hidden = call.numbers("hidden");
  for (int a = 0; a < 3; ++a) rule.kernel[a] = kernel.at(a);
  rule.identity = call.number("identity");
  rule.dense = call.number("dense");
  rule.layers = hidden.size();
  for (int i = 0; i < rule.layers; ++i) rule.hidden[i] = hidden[i];
  const std::vector<double> changed = call.numbers("mutable"), restored = call.numbers("restore");
  rule.mutable_lo = changed.at(0);
  rule.mutable_hi = changed.at(1);
  rule.restore_lo = restored.at(0);
  rule.restore_hi = restored.at(1);
  rule.padding = static_cast<Padding>(call.number("padding"));
  rule.activation = static_cast<Activation>(call.number("activation"));
  rule.dense_activation = static_cast<Activation>(call.number("dense_activation"));
  rule.update_activation = static_cast<Activation>(call.number("update_activation"));
  rule.norm = static_cast<Norm>(call.number("norm"));
  rule.norm_groups = call.number("norm_groups");
  rule.negative_slope = call.number("negative_slope");
  rule.norm_eps = call.number("norm_eps");
  rule.update_scale = call.number("update_scale");
  rule.fire_limit = call.number("fire_limit");
  rule.keep_limit = call.number("keep_limit");
  rule.keep_scale = call.number("keep_scale");
  const std::vector<double> pooled = call.numbers("pooled"), clamp = call.numbers("clamp");
  rule.pooled_lo = pooled.at(0);
  rule.pooled_hi = pooled.at(1);
  rule.pools_max = pooled.at(2);
  rule.clamp.lo = clamp.at(0);
  rule.clamp.hi = clamp.at(1);
  rule.alive.channel = -1;
  const std::vector<double> alive = call.numbers("alive");
  if (alive.empty()) return rule;
  rule.alive.channel = alive.at(0);
  rule.alive.pool = alive.at(1);
  rule.alive.pre = alive.at(2);
  rule.alive.post = alive.at(3);
  rule.alive.threshold = alive.at(4);
  rule.alive.wraps = alive.at(5);
  rule.alive.gates_update = alive.at(6);
  return rule;
}

template <class T>
Parameters<T> read_parameters(Call& call, const std::string& prefix, int layers) {
  const auto named = [&](const std::string& name) { return call.array<T>(prefix + name); };
  Parameters<T> to{};
  to.filters = named("perceive.weight");
  to.filter_bias = named("perceive.bias");
  for (int i = 0; i < layers; ++i) {
    const std::string number = i ? std::to_string(i + 1) : "";
    to.hidden[i] = {named("hidden" + number + ".weight"),     named("hidden" + number + ".bias"),
                    named("norm" + number + ".weight"),       named("norm" + number + ".bias"),
                    named("norm" + number + ".running_mean"), named("norm" + number + ".running_var")};
  }
  to.update_weight = named("update.weight");
  to.update_bias = named("update.bias");
  return to;
}

// The strides of extra channels or their gradient, whose last ones may be missing.
template <class T>
Extra<T> read_extra(Call& call, const std::string& name) {
  Extra<T> extra{};
  extra.values = call.array<T>(name);
  if (!extra.values) return extra;
  std::vector<double> strides = call.numbers(name + ".strides");
  strides.resize(6);
  extra.step_stride = strides[0];
  extra.sample_stride = strides[1];
  extra.channel_stride = strides[2];
  for (int a = 0; a < 3; ++a) extra.axis_stride[a] = strides[3 + a];
  return extra;
}

Inputs read_inputs(Call& call) {
  Inputs in{};
  in.rule = read_rule(call);
  in.grid.batch = call.number("batch");
  const std::vector<double> size = call.numbers("size"), plan = call.numbers("plan");
  for (int a = 0; a < 3; ++a) in.grid.size[a] = in.grid.whole[a] = size.at(a);
  in.plan.steps = plan.at(0);
  in.plan.first_step = plan.at(1);
  in.plan.first_sample = plan.at(2);
  in.plan.every = plan.at(3);
  in.plan.kept = plan.at(4);
  in.state = StateType::float32;
  in.x = call.array<void>("x");
  in.fire.seed = call.array<uint64_t>("seed");
  in.fire.mask = call.array<uint8_t>("fire_mask");
  if (in.fire.mask) {
    const std::vector<double> strides = call.numbers("fire_mask.strides");
    in.fire.step_stride = strides.at(0);
    in.fire.sample_stride = strides.at(1);
  }
  in.parameters = read_parameters<const float>(call, "", in.rule.layers);
  in.extra = read_extra<const float>(call, "extra");
  return in;
}

void run(Call& call, const std::string& what) {
  const Inputs in = read_inputs(call);
  const int threads = call.number("threads");
  if (what == "forward") {
    call.check_all_read();
    cpu::forward(in, threads, call.array<float>("out"), call.array<float>("history"), call.array<float>("stats"),
                 call.array<uint8_t>("tape"));
    return;
  }
  if (what != "backward") throw std::runtime_error("usage: PROGRAM forward|backward < CALL > RESULTS");
  Gradients to{};
  to.parameters = read_parameters<float>(call, "grad.", in.rule.layers);
  to.extra = read_extra<float>(call, "grad.extra");
  to.x = call.array<void>("grad.x");
  call.check_all_read();
  cpu::backward(in, threads, call.array<float>("history"), call.array<uint8_t>("tape"), call.array<float>("grad_out"),
                call.array<float>("grad_history"), to);
}

}  // namespace
}  // namespace ncafast

int main(int count, char** words) {
  try {
    std::ios::sync_with_stdio(false);
    ncafast::Call call(std::cin);
    ncafast::run(call, count > 1 ? words[1] : "");
    call.write_results(std::cout);
    return std::cout.flush() ? 0 : 1;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
