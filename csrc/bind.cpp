// The only file that knows Python: pointers come in as integers, the GIL is released, and nothing
// is checked here (ncafast/check.py and ncafast/native.py did).
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <tuple>
#include <utility>

#include "philox.h"
#include "rollout.h"

namespace py = pybind11;

namespace {

void fire_mask(uintptr_t mask, int64_t first_sample, int64_t batch, int64_t first_cell, int64_t cells, uint64_t seed,
               uint32_t step, uint64_t fire_limit) {
  ncafast::cpu::fire_mask(reinterpret_cast<uint8_t*>(mask), first_sample, batch, first_cell, cells, seed, step,
                          fire_limit);
}

py::tuple philox4x32(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint64_t seed) {
  const ncafast::Block out = ncafast::philox4x32({{c0, c1, c2, c3}}, seed);
  return py::make_tuple(out.word[0], out.word[1], out.word[2], out.word[3]);
}

using ncafast::Inputs;
using ncafast::Parameters;

template <class T>
T* pointer(const py::handle& integer) {
  return reinterpret_cast<T*>(integer.cast<uintptr_t>());
}

// A pointer by its parameter's name, null where the rule has no such parameter.
template <class T>
T* named(const py::dict& params, const std::string& name) {
  return params.contains(name.c_str()) ? pointer<T>(params[name.c_str()]) : nullptr;
}

template <class T>
Parameters<T> read_parameters(const py::dict& params, int layers) {
  Parameters<T> to{};
  to.filters = named<T>(params, "perceive.weight");
  to.filter_bias = named<T>(params, "perceive.bias");
  for (int i = 0; i < layers; ++i) {
    const std::string number = i ? std::to_string(i + 1) : "";
    ncafast::Layer<T>& layer = to.hidden[i];
    layer.weight = named<T>(params, "hidden" + number + ".weight");
    layer.bias = named<T>(params, "hidden" + number + ".bias");
    layer.norm_weight = named<T>(params, "norm" + number + ".weight");
    layer.norm_bias = named<T>(params, "norm" + number + ".bias");
    layer.running_mean = named<T>(params, "norm" + number + ".running_mean");
    layer.running_var = named<T>(params, "norm" + number + ".running_var");
  }
  to.update_weight = named<T>(params, "update.weight");
  to.update_bias = named<T>(params, "update.bias");
  return to;
}

ncafast::Rule read_rule(const py::dict& from) {
  ncafast::Rule rule{};
  rule.channels = from["channels"].cast<int32_t>();
  rule.filters = from["filters"].cast<int32_t>();
  rule.extra = from["extra"].cast<int32_t>();
  const py::list kernel = from["kernel"], hidden = from["hidden"];
  for (int a = 0; a < 3; ++a) rule.kernel[a] = kernel[a].cast<int32_t>();
  rule.identity = from["identity"].cast<bool>();
  rule.dense = from["dense"].cast<bool>();
  rule.layers = static_cast<int32_t>(hidden.size());
  for (int i = 0; i < rule.layers; ++i) rule.hidden[i] = hidden[i].cast<int32_t>();
  std::tie(rule.mutable_lo, rule.mutable_hi) = from["mutable"].cast<std::pair<int32_t, int32_t>>();
  std::tie(rule.restore_lo, rule.restore_hi) = from["restore"].cast<std::pair<int32_t, int32_t>>();
  rule.padding = static_cast<ncafast::Padding>(from["padding"].cast<int32_t>());
  rule.activation = static_cast<ncafast::Activation>(from["activation"].cast<int32_t>());
  rule.dense_activation = static_cast<ncafast::Activation>(from["dense_activation"].cast<int32_t>());
  rule.norm = static_cast<ncafast::Norm>(from["norm"].cast<int32_t>());
  rule.negative_slope = from["negative_slope"].cast<float>();
  rule.norm_eps = from["norm_eps"].cast<float>();
  rule.update_scale = from["update_scale"].cast<float>();
  rule.fire_limit = from["fire_limit"].cast<uint64_t>();
  rule.alive.channel = -1;
  if (!from["alive"].is_none()) {
    const py::tuple alive = from["alive"];
    rule.alive = {alive[0].cast<int32_t>(), alive[1].cast<int32_t>(), alive[2].cast<bool>(), alive[3].cast<bool>(),
                  alive[4].cast<float>()};
  }
  return rule;
}

Inputs read_inputs(const py::dict& call) {
  Inputs in{};
  in.rule = read_rule(call["rule"]);
  in.grid.batch = call["batch"].cast<int64_t>();
  const py::list size = call["size"];
  for (int a = 0; a < 3; ++a) in.grid.size[a] = in.grid.whole[a] = size[a].cast<int64_t>();
  const py::tuple plan = call["plan"];
  in.plan = {plan[0].cast<int64_t>(), plan[1].cast<int64_t>(), plan[2].cast<int64_t>(), plan[3].cast<int64_t>(),
             plan[4].cast<int64_t>()};
  in.x = pointer<const float>(call["x"]);
  in.fire.seed = pointer<const uint64_t>(call["seed"]);
  in.parameters = read_parameters<const float>(call["params"], in.rule.layers);
  if (call.contains("fire_mask")) {
    const py::tuple mask = call["fire_mask"];
    in.fire.mask = pointer<const uint8_t>(mask[0]);
    in.fire.step_stride = mask[1].cast<int64_t>();
    in.fire.sample_stride = mask[2].cast<int64_t>();
  }
  if (call.contains("extra")) {
    const py::tuple extra = call["extra"];
    const py::list axes = extra[4];
    in.extra = {pointer<const float>(extra[0]),
                extra[1].cast<int64_t>(),
                extra[2].cast<int64_t>(),
                extra[3].cast<int64_t>(),
                {axes[0].cast<int64_t>(), axes[1].cast<int64_t>(), axes[2].cast<int64_t>()}};
  }
  return in;
}

void forward(const py::dict& call, uintptr_t out, uintptr_t history, uintptr_t stats, uintptr_t tape) {
  const Inputs in = read_inputs(call);
  const int threads = call["threads"].cast<int>();
  const py::gil_scoped_release released;
  ncafast::cpu::forward(in, threads, reinterpret_cast<float*>(out), reinterpret_cast<float*>(history),
                        reinterpret_cast<float*>(stats), reinterpret_cast<uint8_t*>(tape));
}

void backward(const py::dict& call, uintptr_t history, uintptr_t tape, uintptr_t grad_out, uintptr_t grad_history) {
  const Inputs in = read_inputs(call);
  const int threads = call["threads"].cast<int>();
  const py::dict wanted = call["gradients"];
  ncafast::Gradients gradients{};
  gradients.parameters = read_parameters<float>(wanted, in.rule.layers);
  gradients.x = pointer<float>(wanted["x"]);
  if (wanted.contains("extra")) {
    const py::tuple extra = wanted["extra"];
    gradients.extra = {pointer<float>(extra[0]), extra[1].cast<int64_t>(), extra[2].cast<int64_t>(), 0, {}};
  }
  const py::gil_scoped_release released;
  ncafast::cpu::backward(in, threads, reinterpret_cast<const float*>(history), reinterpret_cast<uint8_t*>(tape),
                         reinterpret_cast<const float*>(grad_out), reinterpret_cast<const float*>(grad_history),
                         gradients);
}

}  // namespace

PYBIND11_MODULE(_C, m, py::mod_gil_not_used()) {
  m.doc() = "Kernels of ncafast. Arguments are not checked: call ncafast.native instead.";
  m.def("fire_mask", &fire_mask, py::arg("mask"), py::arg("first_sample"), py::arg("batch"), py::arg("first_cell"),
        py::arg("cells"), py::arg("seed"), py::arg("step"), py::arg("fire_limit"),
        py::call_guard<py::gil_scoped_release>());
  m.def("philox4x32", &philox4x32, py::arg("c0"), py::arg("c1"), py::arg("c2"), py::arg("c3"), py::arg("seed"));
  m.def("forward", &forward, py::arg("call"), py::arg("out"), py::arg("history"), py::arg("stats"), py::arg("tape"));
  m.def("backward", &backward, py::arg("call"), py::arg("history"), py::arg("tape"), py::arg("grad_out"),
        py::arg("grad_history"));
  m.def("instruction_set", &ncafast::cpu::instruction_set);
}
