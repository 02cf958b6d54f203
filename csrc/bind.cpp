// Binds the CPU's kernels to Python: pointers come in as integers, the GIL is released, and nothing
// but the numbers of enums is checked here (ncafast/check.py and ncafast/native.py did).
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "bind_block.h"
#include "bind_members.h"
#include "philox.h"
#include "rollout.h"

namespace py = pybind11;

namespace {

// Runs Python's handlers of pending signals, which otherwise wait until the kernels return. Ctrl-C's raises
// KeyboardInterrupt.
void run_signal_handlers() {
  const py::gil_scoped_acquire held;
  if (PyErr_CheckSignals()) throw py::error_already_set();
}

void fire_mask(uintptr_t mask, int64_t first_sample, int64_t batch, int64_t first_cell, int64_t cells, uint64_t seed,
               uint32_t step, uint64_t fire_limit) {
  ncafast::cpu::fire_mask(reinterpret_cast<uint8_t*>(mask), first_sample, batch, first_cell, cells, seed, step,
                          fire_limit);
}

void fire_masks(uintptr_t mask, int64_t steps, int64_t batch, int64_t first_step, int64_t first_sample, uint64_t seed,
                uint64_t fire_limit, const std::array<int64_t, 3>& origin, const std::array<int64_t, 3>& size,
                const std::array<int64_t, 3>& whole) {
  ncafast::Grid grid{batch, {}, {}, {}};
  std::copy(size.begin(), size.end(), grid.size);
  std::copy(whole.begin(), whole.end(), grid.whole);
  std::copy(origin.begin(), origin.end(), grid.origin);
  ncafast::cpu::fire_masks(reinterpret_cast<uint8_t*>(mask), steps, seed, first_step, first_sample, fire_limit, grid);
}

py::tuple philox4x32(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint64_t seed) {
  const ncafast::Block out = ncafast::philox4x32({{c0, c1, c2, c3}}, seed);
  return py::make_tuple(out.word[0], out.word[1], out.word[2], out.word[3]);
}

void sums_of_part(const py::dict& call, const std::array<int64_t, 3>& start, const std::array<int64_t, 3>& stop,
                  int64_t sets, uintptr_t shift, uintptr_t first, uintptr_t second) {
  const ncafast::Inputs in = ncafast::read_inputs(call);
  const int threads = call["threads"].cast<int>();
  ncafast::Box core{};
  std::copy(start.begin(), start.end(), core.start);
  std::copy(stop.begin(), stop.end(), core.stop);
  const py::gil_scoped_release released;
  ncafast::cpu::sums_of_part(in, threads, core, sets, reinterpret_cast<const float*>(shift),
                             reinterpret_cast<double*>(first), reinterpret_cast<double*>(second));
}

void forward(const py::dict& call, uintptr_t out, uintptr_t history, uintptr_t stats, uintptr_t tape) {
  const ncafast::Inputs in = ncafast::read_inputs(call);
  const int threads = call["threads"].cast<int>();
  const py::gil_scoped_release released;
  ncafast::cpu::forward(in, threads, reinterpret_cast<float*>(out), reinterpret_cast<float*>(history),
                        reinterpret_cast<float*>(stats), reinterpret_cast<uint8_t*>(tape));
}

void backward(const py::dict& call, uintptr_t history, uintptr_t tape, uintptr_t grad_out, uintptr_t grad_history) {
  const ncafast::Inputs in = ncafast::read_inputs(call);
  const int threads = call["threads"].cast<int>();
  const ncafast::Gradients gradients = ncafast::read_gradients(call["gradients"], in.rule.layers);
  const py::gil_scoped_release released;
  ncafast::cpu::backward(in, threads, reinterpret_cast<const float*>(history), reinterpret_cast<uint8_t*>(tape),
                         reinterpret_cast<const float*>(grad_out), reinterpret_cast<const float*>(grad_history),
                         gradients);
}

}  // namespace

PYBIND11_MODULE(_C, m, py::mod_gil_not_used()) {
  m.doc() = "Kernels of ncafast. Arguments are not checked, but for enums: call ncafast.native instead.";
  ncafast::cpu::between_steps(&run_signal_handlers);
  m.def("fire_mask", &fire_mask, py::arg("mask"), py::arg("first_sample"), py::arg("batch"), py::arg("first_cell"),
        py::arg("cells"), py::arg("seed"), py::arg("step"), py::arg("fire_limit"),
        py::call_guard<py::gil_scoped_release>());
  m.def("fire_masks", &fire_masks, py::arg("mask"), py::arg("steps"), py::arg("batch"), py::arg("first_step"),
        py::arg("first_sample"), py::arg("seed"), py::arg("fire_limit"), py::arg("origin"), py::arg("size"),
        py::arg("whole"), py::call_guard<py::gil_scoped_release>());
  m.def("philox4x32", &philox4x32, py::arg("c0"), py::arg("c1"), py::arg("c2"), py::arg("c3"), py::arg("seed"));
  m.def("forward", &forward, py::arg("call"), py::arg("out"), py::arg("history"), py::arg("stats"), py::arg("tape"));
  m.def("backward", &backward, py::arg("call"), py::arg("history"), py::arg("tape"), py::arg("grad_out"),
        py::arg("grad_history"));
  m.def("sums_of_part", &sums_of_part, py::arg("call"), py::arg("start"), py::arg("stop"), py::arg("sets"),
        py::arg("shift"), py::arg("first"), py::arg("second"));
  m.def("forward_members", &ncafast::forward_members, py::arg("call"));
  m.def("backward_members", &ncafast::backward_members, py::arg("call"));
  m.def("enums", &ncafast::enums);
  m.def("block", &ncafast::pool_block, py::arg("shape"));
  m.def("keep", &ncafast::cpu::keep, py::arg("bytes"));
  m.def("kept", &ncafast::cpu::kept);
  m.def("release", &ncafast::cpu::release);
  m.def("refuse_bf16", &ncafast::cpu::refuse_bf16);
  m.def("instruction_set", &ncafast::cpu::instruction_set);
  m.def("instruction_sets", &ncafast::cpu::instruction_sets);
  m.def("multiply_add", &ncafast::cpu::multiply_add, py::arg("set"), py::arg("threads"), py::arg("rounds"),
        py::call_guard<py::gil_scoped_release>());
  m.def("copy", &ncafast::cpu::copy, py::arg("threads"), py::arg("bytes"), py::arg("rounds"),
        py::call_guard<py::gil_scoped_release>());
}
