// Memory of the pool as a capsule in DLPack's format, which torch.from_dlpack turns into a tensor that gives it back.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "cpu/pool.h"

namespace ncafast {

// DLPack's ABI before version 1: https://dmlc.github.io/dlpack/latest/c_api.html
struct DlpackTensor {
  void* data;
  int32_t device_type, device_index;
  int32_t ndim;
  uint8_t code, bits;
  uint16_t lanes;
  int64_t *shape, *strides;
  uint64_t byte_offset;
};
struct DlpackManaged {
  DlpackTensor tensor;
  void* context;
  void (*deleter)(DlpackManaged*);
};

struct PoolBlock {
  explicit PoolBlock(std::vector<int64_t> sizes) : shape(std::move(sizes)) {
    for (const int64_t n : shape) bytes *= n;
    managed.tensor = {cpu::take(bytes), 1, 0, static_cast<int32_t>(shape.size()), 2, 32, 1, shape.data(), nullptr, 0};
    managed.context = this;
    managed.deleter = [](DlpackManaged* of) { delete static_cast<PoolBlock*>(of->context); };
  }
  PoolBlock(const PoolBlock&) = delete;
  ~PoolBlock() { cpu::give(managed.tensor.data, bytes); }

  std::vector<int64_t> shape;
  int64_t bytes = 4;  // of a float32
  DlpackManaged managed{};
};

// Uninitialised float32 memory. The capsule's name tells whether somebody took it over.
inline pybind11::capsule pool_block(const std::vector<int64_t>& shape) {
  auto block = std::make_unique<PoolBlock>(shape);
  pybind11::capsule capsule(&block->managed, "dltensor", [](PyObject* object) {
    if (!PyCapsule_IsValid(object, "dltensor")) return;
    auto* managed = static_cast<DlpackManaged*>(PyCapsule_GetPointer(object, "dltensor"));
    managed->deleter(managed);
  });
  block.release();
  return capsule;
}

}  // namespace ncafast
