// Reads members: the first one's call, and how many bytes each pointer moves on from one member to the next.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <vector>

#include "bind.h"
#include "members.h"

namespace ncafast {

// A pointer, or a tuple that starts with one, so many bytes on; null stays null.
inline py::object moved(const py::handle& from, int64_t bytes) {
  if (!py::isinstance<py::tuple>(from)) {
    const uintptr_t at = from.cast<uintptr_t>();
    return py::int_(at ? at + static_cast<uintptr_t>(bytes) : 0);
  }
  py::list all(py::reinterpret_borrow<py::object>(from));
  all[0] = moved(all[0], bytes);
  return py::tuple(all);
}

// The pointers of member `number`: `apart` has the bytes by name, for dicts of pointers a dict of them.
inline py::dict at_member(const py::dict& first, const py::dict& apart, int64_t number) {
  py::dict found = first.attr("copy")();
  for (const auto& [name, bytes] : apart) {
    const py::object value = first[name];
    if (py::isinstance<py::dict>(bytes))
      found[name] = at_member(value.cast<py::dict>(), bytes.cast<py::dict>(), number);
    else
      found[name] = moved(value, number * bytes.cast<int64_t>());
  }
  return found;
}

// Calls read(call of the member, its inputs) for each of call["members"] = (count, samples apart, bytes apart).
template <class Read>
void each_member(const py::dict& call, const Read& read) {
  const py::tuple members = call["members"];
  const int64_t count = members[0].cast<int64_t>(), samples = members[1].cast<int64_t>();
  for (int64_t number = 0; number < count; ++number) {
    const py::dict here = at_member(call, members[2].cast<py::dict>(), number);
    Inputs inputs = read_inputs(here);
    inputs.plan.first_sample += number * samples;
    read(here, inputs);
  }
}

inline void forward_members(const py::dict& call) {
  std::vector<cpu::ForwardMember> members;
  each_member(call, [&](const py::dict& here, const Inputs& inputs) {
    members.push_back({inputs, pointer<float>(here["out"]), pointer<float>(here["history"]),
                       pointer<float>(here["stats"]), pointer<uint8_t>(here["tape"])});
  });
  const int threads = call["threads"].cast<int>();
  const py::gil_scoped_release released;
  cpu::forward(members, threads);
}

inline void backward_members(const py::dict& call) {
  std::vector<cpu::BackwardMember> members;
  each_member(call, [&](const py::dict& here, const Inputs& inputs) {
    members.push_back({inputs, pointer<float>(here["history"]), pointer<uint8_t>(here["tape"]),
                       pointer<float>(here["grad_out"]), pointer<float>(here["grad_history"]),
                       read_gradients(here["gradients"], inputs.rule.layers)});
  });
  const int threads = call["threads"].cast<int>();
  const py::gil_scoped_release released;
  cpu::backward(members, threads);
}

}  // namespace ncafast
