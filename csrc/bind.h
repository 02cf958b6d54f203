// What bind.cpp and bind_cuda.cpp share, the only files beside this one that know Python: a call as
// ncafast/backends/native_call.py says it, numbers and pointers by name, read into the structs of rollout.h.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <tuple>
#include <utility>

#include "kinds.h"
#include "rollout.h"

namespace ncafast {

namespace py = pybind11;

template <class T>
T* pointer(const py::handle& integer) {
  return reinterpret_cast<T*>(integer.cast<uintptr_t>());
}

// A pointer by its parameter's name, null where the rule has no such parameter.
template <class T>
T* named(const py::dict& params, const std::string& name) {
  return params.contains(name.c_str()) ? pointer<T>(params[name.c_str()]) : nullptr;
}

// An enum's names, in the order of its values.
template <class Enum>
py::tuple names_of() {
  py::list names;
  for (int32_t number = 0; const char* name = name_of(static_cast<Enum>(number)); ++number) names.append(name);
  return py::tuple(names);
}

// A value of an enum by its number. A number that has no name comes from a Python side newer or older than this module.
template <class Enum>
Enum read_enum(const char* what, const py::handle& from) {
  const int32_t number = from.cast<int32_t>();
  if (name_of(static_cast<Enum>(number))) return static_cast<Enum>(number);
  const py::tuple names = names_of<Enum>();
  std::string message = std::string(what) + "=" + std::to_string(number) + " is not known to these kernels:";
  for (size_t i = 0; i < names.size(); ++i)
    message += (i ? ", " : " ") + std::to_string(i) + " is " + names[i].cast<std::string>();
  throw py::value_error(message + "; build ncafast again");
}

// The enums by name, for the test that compares them with the Python side.
inline py::dict enums() {
  py::dict found;
  found["Padding"] = names_of<Padding>();
  found["Activation"] = names_of<Activation>();
  found["Norm"] = names_of<Norm>();
  found["StateType"] = names_of<StateType>();
  found["Precision"] = names_of<cuda::Precision>();
  found["Way"] = names_of<cuda::Way>();
  return found;
}

template <class T>
Parameters<T> read_parameters(const py::dict& params, int layers) {
  Parameters<T> to{};
  to.filters = named<T>(params, "perceive.weight");
  to.filter_bias = named<T>(params, "perceive.bias");
  for (int i = 0; i < layers; ++i) {
    const std::string number = i ? std::to_string(i + 1) : "";
    Layer<T>& layer = to.hidden[i];
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

inline Rule read_rule(const py::dict& from) {
  Rule rule{};
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
  rule.padding = read_enum<Padding>("padding", from["padding"]);
  rule.activation = read_enum<Activation>("activation", from["activation"]);
  rule.dense_activation = read_enum<Activation>("dense_activation", from["dense_activation"]);
  rule.update_activation = read_enum<Activation>("update_activation", from["update_activation"]);
  rule.norm = read_enum<Norm>("norm", from["norm"]);
  rule.norm_groups = from["norm_groups"].cast<int32_t>();
  rule.negative_slope = from["negative_slope"].cast<float>();
  rule.norm_eps = from["norm_eps"].cast<float>();
  rule.update_scale = from["update_scale"].cast<float>();
  rule.fire_limit = from["fire_limit"].cast<uint64_t>();
  rule.keep_limit = from["keep_limit"].cast<uint64_t>();
  rule.keep_scale = from["keep_scale"].cast<float>();
  const py::tuple pooled = from["pooled"];
  rule.pooled_lo = pooled[0].cast<int32_t>();
  rule.pooled_hi = pooled[1].cast<int32_t>();
  rule.pools_max = pooled[2].cast<bool>();
  rule.alive.channel = -1;
  if (!from["alive"].is_none()) {
    const py::tuple alive = from["alive"];
    rule.alive = {alive[0].cast<int32_t>(), alive[1].cast<int32_t>(), alive[2].cast<bool>(), alive[3].cast<bool>(),
                  alive[4].cast<float>(),   alive[5].cast<bool>(),    alive[6].cast<bool>()};
  }
  const py::tuple clamp = from["clamp"];
  rule.clamp = {clamp[0].cast<float>(), clamp[1].cast<float>()};
  return rule;
}

inline Grid read_grid(int64_t batch, const py::list& size) {
  Grid grid{};
  grid.batch = batch;
  for (int a = 0; a < 3; ++a) grid.size[a] = grid.whole[a] = size[a].cast<int64_t>();
  return grid;
}

inline Inputs read_inputs(const py::dict& call) {
  Inputs in{};
  in.rule = read_rule(call["rule"]);
  in.grid = read_grid(call["batch"].cast<int64_t>(), call["size"]);
  const py::tuple plan = call["plan"];
  in.plan = {plan[0].cast<int64_t>(), plan[1].cast<int64_t>(), plan[2].cast<int64_t>(), plan[3].cast<int64_t>(),
             plan[4].cast<int64_t>()};
  in.bf16 = call.contains("bf16") && call["bf16"].cast<bool>();
  in.state = read_enum<StateType>("state", call["state"]);
  in.x = pointer<const void>(call["x"]);
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

inline Gradients read_gradients(const py::dict& wanted, int layers) {
  Gradients to{};
  to.parameters = read_parameters<float>(wanted, layers);
  to.x = pointer<void>(wanted["x"]);
  if (wanted.contains("extra")) {
    const py::tuple extra = wanted["extra"];
    to.extra = {pointer<float>(extra[0]), extra[1].cast<int64_t>(), extra[2].cast<int64_t>(), 0, {}};
  }
  return to;
}

}  // namespace ncafast
