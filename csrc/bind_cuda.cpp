// Binds the CUDA kernels to Python, as bind.cpp does the CPU's. Compiled by the C++ compiler: no CUDA header is needed.
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <utility>

#include "bind.h"
#include "cuda/query.h"
#include "rollout.h"

namespace py = pybind11;

namespace {

using ncafast::cuda::Precision;

Precision read_precision(const py::handle& number) { return ncafast::read_enum<Precision>("precision", number); }

py::object reason_or_none(const std::string& reason) {
  return reason.empty() ? py::object(py::none()) : py::object(py::str(reason));
}

py::object refuse_device(int device) { return reason_or_none(ncafast::cuda::refuse_device(device)); }

py::object refuse(const py::dict& rule, int64_t batch, const py::list& size, const py::int_& state,
                  const py::int_& precision, int device) {
  const std::string unfit = ncafast::cuda::refuse_device(device);
  if (!unfit.empty()) return py::str(unfit);
  const ncafast::cuda::OnDevice on(device);
  const char* reason =
      ncafast::cuda::refuse(ncafast::read_rule(rule), ncafast::read_grid(batch, size),
                            ncafast::read_enum<ncafast::StateType>("state", state), read_precision(precision));
  return reason_or_none(reason ? reason : "");
}

int64_t tape_bytes(const py::dict& rule, int64_t batch, const py::list& size) {
  return ncafast::cuda::tape_bytes(ncafast::read_rule(rule), ncafast::read_grid(batch, size));
}

// What a call runs on and with, beside its tensors: (device, multiprocessors, precision, stream, way).
struct Place {
  explicit Place(const py::tuple& from)
      : device(from[0].cast<int>()),
        multiprocessors(from[1].cast<int>()),
        precision(read_precision(from[2])),
        stream(reinterpret_cast<void*>(from[3].cast<uintptr_t>())),
        way(ncafast::read_enum<ncafast::cuda::Way>("way", from[4])) {}

  int device, multiprocessors;
  Precision precision;
  void* stream;
  ncafast::cuda::Way way;  // of forward
};

int64_t workspace_bytes(const py::dict& call, const py::tuple& place, bool backward) {
  const ncafast::Inputs in = ncafast::read_inputs(call);
  const Place at(place);
  const ncafast::cuda::OnDevice device(at.device);
  if (!backward) return ncafast::cuda::workspace_bytes(in, at.precision, nullptr, at.multiprocessors);
  const ncafast::Gradients gradients = ncafast::read_gradients(call["gradients"], in.rule.layers);
  return ncafast::cuda::workspace_bytes(in, at.precision, &gradients, at.multiprocessors);
}

// (kernel, cells of a tile per axis, tiles, threads, bytes of shared memory) of a step's kernels.
py::list launches(const py::dict& rule, int64_t batch, const py::list& size, bool fixed, int multiprocessors) {
  py::list found;
  for (const ncafast::cuda::Launch& launch :
       ncafast::cuda::launches(ncafast::read_rule(rule), ncafast::read_grid(batch, size), fixed, multiprocessors))
    found.append(py::make_tuple(launch.kernel, py::make_tuple(launch.box[0], launch.box[1], launch.box[2]),
                                launch.tiles, launch.threads, launch.bytes));
  return found;
}

// The number of the way that it went, and the blocks of a cluster.
std::pair<int, int> forward(const py::dict& call, const py::tuple& place, uintptr_t out, uintptr_t history,
                            uintptr_t stats, uintptr_t tape, uintptr_t workspace) {
  const ncafast::Inputs in = ncafast::read_inputs(call);
  const Place at(place);
  const py::gil_scoped_release released;
  const ncafast::cuda::OnDevice device(at.device);
  const ncafast::cuda::Went went = ncafast::cuda::forward(
      in, at.precision, at.multiprocessors, at.way, reinterpret_cast<void*>(out), reinterpret_cast<void*>(history),
      reinterpret_cast<float*>(stats), reinterpret_cast<uint8_t*>(tape), reinterpret_cast<void*>(workspace), at.stream);
  return {static_cast<int>(went.way), went.parts};
}

bool backward(const py::dict& call, const py::tuple& place, uintptr_t history, uintptr_t tape, uintptr_t grad_out,
              uintptr_t grad_history, uintptr_t workspace) {
  const ncafast::Inputs in = ncafast::read_inputs(call);
  const ncafast::Gradients gradients = ncafast::read_gradients(call["gradients"], in.rule.layers);
  const Place at(place);
  const py::gil_scoped_release released;
  const ncafast::cuda::OnDevice device(at.device);
  return ncafast::cuda::backward(in, at.precision, at.multiprocessors, reinterpret_cast<const void*>(history),
                                 reinterpret_cast<const uint8_t*>(tape), reinterpret_cast<const void*>(grad_out),
                                 reinterpret_cast<const void*>(grad_history), gradients,
                                 reinterpret_cast<void*>(workspace), at.stream);
}

}  // namespace

PYBIND11_MODULE(_CUDA, m, py::mod_gil_not_used()) {
  m.doc() = "CUDA kernels of ncafast. Arguments are not checked, but for enums: ncafast.backends.cuda does.";
  m.def("enums", &ncafast::enums);
  m.def("refuse_device", &refuse_device, py::arg("device"));
  m.def("refuse", &refuse, py::arg("rule"), py::arg("batch"), py::arg("size"), py::arg("state"), py::arg("precision"),
        py::arg("device"));
  m.def("tape_bytes", &tape_bytes, py::arg("rule"), py::arg("batch"), py::arg("size"));
  m.def("launches", &launches, py::arg("rule"), py::arg("batch"), py::arg("size"), py::arg("fixed"),
        py::arg("multiprocessors"));
  m.def("workspace_bytes", &workspace_bytes, py::arg("call"), py::arg("place"), py::arg("backward"));
  m.def("forward", &forward, py::arg("call"), py::arg("place"), py::arg("out"), py::arg("history"), py::arg("stats"),
        py::arg("tape"), py::arg("workspace"));
  m.def("backward", &backward, py::arg("call"), py::arg("place"), py::arg("history"), py::arg("tape"),
        py::arg("grad_out"), py::arg("grad_history"), py::arg("workspace"));
}
