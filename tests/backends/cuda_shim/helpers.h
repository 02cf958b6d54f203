// What csrc/cuda/device.h wraps, emulated: shared memory, tensor cores, asynchronous copies, clusters, launches.
#pragma once

#include <stdexcept>
#include <string>
#include <tuple>

#include "cuda/switches.h"
#include "language.h"

#define NCAFAST_DEVICE inline
#define NCAFAST_HAS_CLUSTERS 1
#define NCAFAST_SHARED(type, name, count) \
  static const char name##_mark = 0;      \
  type(&name)[count] =                    \
      *reinterpret_cast<type(*)[count]>(shim::self->block->array(&name##_mark, sizeof(type) * (count)).begin())

namespace ncafast::cuda {

template <class T>
T* shared_memory() {
  return reinterpret_cast<T*>(shim::self->block->dynamic.begin());
}

// ---- between arrays of one piece of memory

constexpr int64_t guard_bytes = 32;
inline void guard(void* from, int64_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(from, static_cast<size_t>(bytes));
#endif
  (void)from, (void)bytes;
}

inline void store_shared(float* to, const float4& value) { *reinterpret_cast<float4*>(to) = value; }

// ---- rounding

inline uint32_t to_tf32(float value) {
  const uint32_t bits = __float_as_uint(value);
  return std::isfinite(value) ? (bits + 0x1000u) & ~0x1fffu : bits;
}

inline uint16_t to_bf16(float value) {
  const uint32_t bits = __float_as_uint(value);
  return static_cast<uint16_t>(std::isnan(value) ? 0x7fffu : (bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

inline float from_bf16(uint16_t bits) { return __uint_as_float(uint32_t{bits} << 16); }

inline uint32_t to_bf16x2(float low, float high) { return to_bf16(low) | uint32_t{to_bf16(high)} << 16; }

inline uint16_t to_f16(float value) {
  const uint32_t bits = __float_as_uint(value), sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;
  uint32_t rounded;
  if (size > 0x7f800000u)  // NaN
    return 0x7fff;
  if (size >= 0x477ff000u) {  // 65520, halfway between the largest number and the one that would follow
    rounded = 0x7c00;
  } else if (size < 0x38800000u) {  // below 2^-14: multiples of 2^-24, as floats from 1/2 to 1 are
    rounded = __float_as_uint(std::fabs(value) + 0.5f) - __float_as_uint(0.5f);
  } else {
    const uint32_t own = size - (112u << 23);  // with the exponent's own bias
    rounded = (own + 0xfffu + (own >> 13 & 1)) >> 13;
  }
  return static_cast<uint16_t>(sign | rounded);
}

inline float from_f16(uint16_t bits) {
  const uint32_t sign = (bits & 0x8000u) << 16, rest = bits & 0x7fffu;
  if (rest < 0x400u) return __uint_as_float(sign | __float_as_uint(static_cast<float>(rest) * 0x1p-24f));
  const uint32_t bias = rest < 0x7c00u ? 112u : 224u;  // infinity and NaN have the largest exponent of both
  return __uint_as_float(sign | ((rest << 13) + (bias << 23)));
}

inline void add_half_tf32(float (&four)[4]) {
  for (const float value : four)
    if (std::isnan(value)) return;
  for (float& value : four) value = __uint_as_float(__float_as_uint(value) + 0x1000u);
}

inline uint32_t add_min(uint32_t a, uint32_t b, uint32_t most) { return a + b < most ? a + b : most; }

inline float max_nan(float a, float b) { return std::isnan(a) || std::isnan(b) ? NAN : a > b ? a : b; }

}  // namespace ncafast::cuda

namespace shim {

struct Mma {
  float* d;
  const uint32_t* a;
  uint32_t b[2];
};

// What the tensor core makes of a register: of TF32 it reads the upper 19 bits, whatever the others hold.
inline float tf32_operand(uint32_t bits) { return __uint_as_float(bits & ~0x1fffu); }
inline float bf16_operand(uint32_t bits, int half) { return __uint_as_float(half ? bits & 0xffff0000u : bits << 16); }

template <int K>
void multiply(const float (&a)[16][K], const float (&b)[K][8], Mma* (&lanes)[32]) {
  float d[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) d[g + i / 2 * 8][2 * t + i % 2] = lanes[lane]->d[i];
  }
  for (int row = 0; row < 16; ++row) {
    for (int k = 0; k < K; ++k) {
      for (int column = 0; column < 8; ++column) d[row][column] += a[row][k] * b[k][column];
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) lanes[lane]->d[i] = d[g + i / 2 * 8][2 * t + i % 2];
  }
}

struct Row {
  const void* from;
  uint32_t* to;
};

inline void load_matrix(const char* what, uint32_t* to, const void* row, bool transposed) {
  if (reinterpret_cast<uintptr_t>(row) % 16) fail("a row is not aligned to 16 bytes: ", what);
  Row mine{row, to};
  meet(0xffffffffu, what, mine, [transposed](Row*(&lanes)[32]) {
    for (int matrix = 0; matrix < 4; ++matrix) {
      uint16_t values[8][8];
      for (int i = 0; i < 8; ++i) std::memcpy(values[i], lanes[8 * matrix + i]->from, 16);
      for (int lane = 0; lane < 32; ++lane) {
        const int g = lane / 4, t = lane % 4;
        const uint32_t low = transposed ? values[2 * t][g] : values[g][2 * t];
        const uint32_t high = transposed ? values[2 * t + 1][g] : values[g][2 * t + 1];
        lanes[lane]->to[matrix] = low | high << 16;
      }
    }
  });
}

inline void land(size_t how_many) {
  auto& copies = self->copies;
  for (size_t i = 0; i < how_many; ++i) {
    if (copies[i].from) {
      std::memcpy(copies[i].to, copies[i].from, static_cast<size_t>(copies[i].bytes));
    } else {
      std::memset(copies[i].to, 0, static_cast<size_t>(copies[i].bytes));
    }
  }
  copies.erase(copies.begin(), copies.begin() + static_cast<std::ptrdiff_t>(how_many));
}

}  // namespace shim

namespace ncafast::cuda {

// ---- tensor cores

inline void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  shim::Mma mine{d, a, {b0, b1}};
  shim::meet(0xffffffffu, "mma_m16n8k8_tf32", mine, [](shim::Mma*(&lanes)[32]) {
    float left[16][8], right[8][8];
    for (int lane = 0; lane < 32; ++lane) {
      const int g = lane / 4, t = lane % 4;
      for (int i = 0; i < 4; ++i) left[g + i % 2 * 8][t + i / 2 * 4] = shim::tf32_operand(lanes[lane]->a[i]);
      for (int i = 0; i < 2; ++i) right[t + 4 * i][g] = shim::tf32_operand(lanes[lane]->b[i]);
    }
    shim::multiply<8>(left, right, lanes);
  });
}

inline void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  shim::Mma mine{d, a, {b0, b1}};
  shim::meet(0xffffffffu, "mma_m16n8k16_bf16", mine, [](shim::Mma*(&lanes)[32]) {
    float left[16][16], right[16][8];
    for (int lane = 0; lane < 32; ++lane) {
      const int g = lane / 4, t = lane % 4;
      for (int half = 0; half < 2; ++half) {
        for (int i = 0; i < 4; ++i) {
          left[g + i % 2 * 8][2 * t + i / 2 * 8 + half] = shim::bf16_operand(lanes[lane]->a[i], half);
        }
        for (int i = 0; i < 2; ++i) right[2 * t + 8 * i + half][g] = shim::bf16_operand(lanes[lane]->b[i], half);
      }
    }
    shim::multiply<16>(left, right, lanes);
  });
}

using SharedPlace = const unsigned char*;
inline SharedPlace shared_place(const void* at) { return static_cast<SharedPlace>(at); }
inline void load_matrix_x4(uint32_t (&to)[4], const void* row) { shim::load_matrix("load_matrix_x4", to, row, false); }
inline void load_matrix_x4_transposed(uint32_t (&to)[4], const void* row) {
  shim::load_matrix("load_matrix_x4_transposed", to, row, true);
}

// ---- asynchronous copies: both ends are looked at now, the data lands at the wait, and until then NaN stands there

template <int bytes>
void copy_async(void* to_shared, const void* from, bool from_there = true) {
  static_assert(bytes == 4 || bytes == 8 || bytes == 16, "cp.async copies 4, 8 or 16 bytes");
  if (reinterpret_cast<uintptr_t>(to_shared) % bytes || (from_there && reinterpret_cast<uintptr_t>(from) % bytes)) {
    shim::fail("copy_async: an address is not a multiple of the size");
  }
  std::memset(to_shared, 0xff, bytes);
  if (from_there) {
    char seen[bytes];
    std::memcpy(seen, from, bytes);
    asm volatile("" ::"r"(seen) : "memory");
  }
  shim::self->copies.push_back({to_shared, from_there ? from : nullptr, bytes});
  ++shim::self->open_copies;
}

inline void copy_async_of(int number, void* to_shared, const void* from) {
  copy_async<16>(to_shared, from, number >= 0);
}
inline void copy_async_commit() { shim::self->groups.push_back(std::exchange(shim::self->open_copies, 0)); }

template <int pending = 0>
void copy_async_wait() {
  auto& groups = shim::self->groups;
  const size_t done = groups.size() > pending ? groups.size() - pending : 0;
  size_t landed = 0;
  for (size_t i = 0; i < done; ++i) landed += groups[i];
  shim::land(landed);
  groups.erase(groups.begin(), groups.begin() + static_cast<std::ptrdiff_t>(done));
}

// ---- barriers

inline void barrier(int id, int threads) {
  shim::arrive(shim::self->block->barriers[id], static_cast<size_t>(threads), "barrier");
}

inline void grid_sync() {
  if (shim::now->blocks.size() != shim::count(shim::now->kernel->grid)) {
    shim::fail("grid_sync in a kernel that launch_cooperative did not start");
  }
  shim::arrive(shim::now->everyone, shim::now->alive, "grid_sync");
}

// ---- words between blocks

inline uint32_t load_acquire(const uint32_t* from) {
  shim::look();
  const uint32_t value = __atomic_load_n(from, __ATOMIC_ACQUIRE);
  return value;
}
inline void store_release(uint32_t* to, uint32_t value) {
  shim::now->idle = 0;
  __atomic_store_n(to, value, __ATOMIC_RELEASE);
}
inline uint32_t add_release(uint32_t* to, uint32_t value) {
  shim::now->idle = 0;
  return __atomic_fetch_add(to, value, __ATOMIC_ACQ_REL);
}

// ---- clusters

inline unsigned cluster_rank() { return shim::self->block->rank; }
inline unsigned cluster_blocks() { return static_cast<unsigned>(shim::now->blocks.size()); }

inline void cluster_arrive() {
  shim::leave_mark(&shim::now->cluster);
  ++shim::self->cluster_arrived;
  ++shim::now->cluster_here;
  shim::open_cluster_if_complete();
}
inline void cluster_wait() {
  shim::Thread* const me = shim::self;
  if (me->cluster_waited == me->cluster_arrived) shim::fail("cluster_wait without cluster_arrive");
  ++me->cluster_waited;
  if (shim::now->cluster_opened < me->cluster_waited) {
    shim::now->cluster.waiting.push_back(me);
    shim::wait_for("cluster_wait");
  }
  shim::see_mark(&shim::now->cluster);
}
inline void cluster_sync() {
  cluster_arrive();
  cluster_wait();
}

template <class T>
T* cluster_map(T* shared, unsigned rank) {
  shim::Block &mine = *shim::self->block, &other = *shim::now->blocks.at(rank);
  if (!other.alive) shim::fail("cluster_map: that block has ended");
  const char* at = reinterpret_cast<const char*>(shared);
  if (mine.dynamic.holds(at)) return reinterpret_cast<T*>(other.dynamic.begin() + (at - mine.dynamic.begin()));
  for (auto& [mark, memory] : mine.fixed) {
    if (memory.holds(at)) {
      return reinterpret_cast<T*>(other.array(mark, memory.bytes()).begin() + (at - memory.begin()));
    }
  }
  shim::fail("cluster_map: the address is not in this block's shared memory");
}

// ---- dependent launch

inline void grid_dependency_wait() {
  if (shim::now->dependency_open) return;
  shim::now->dependent.push_back(shim::self);
  shim::wait_for("grid_dependency_wait");
  shim::see_mark(shim::now);
}
inline void grid_dependency_release() {}

// ---- host

inline void set_device(int) {}
inline void end_of_launches() { shim::finish(); }

// NCAFAST_SHIM_CAPABILITY says which GPU this is to be.
inline int compute_capability() {
  const char* wanted = std::getenv("NCAFAST_SHIM_CAPABILITY");
  return wanted ? std::atoi(wanted) : 90;
}
inline std::string driver_refusal() { return {}; }
template <class... P>
std::string device_refusal(void (*)(P...)) {
  return {};
}
inline int64_t shared_memory_limit() {
  const int capability = compute_capability();
  return (capability == 80 ? 163 : capability < 90 || capability >= 120 ? 99 : 227) * 1024;
}

template <class... P>
int blocks_per_multiprocessor(void (*)(P...), int threads, size_t shared_bytes) {
  const int64_t bytes = static_cast<int64_t>(shared_bytes) + 1024, all = shared_memory_limit() + 1024;
  return static_cast<int>(std::min<int64_t>(bytes > all ? 0 : all / bytes, 1024 / threads));
}
template <class... P>
int active_clusters(void (*kernel)(P...), unsigned cluster, int threads, size_t shared_bytes) {
  if (compute_capability() < 90 || cluster > 16) return 0;
  return blocks_per_multiprocessor(kernel, threads, shared_bytes) ? 16 / static_cast<int>(cluster) : 0;
}

}  // namespace ncafast::cuda

namespace shim {

template <class... P, class... A>
void launch(unsigned together, bool dependent, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
            A&&... arguments) {
  const unsigned threads = count(block);
  if (!count(grid) || !threads || threads > 1024) throw std::runtime_error("kernel launch: invalid configuration");
  if (grid.y > 65535 || grid.z > 65535 || grid.x > 0x7fffffffu)
    throw std::runtime_error("kernel launch: grid too large");
  if (static_cast<int64_t>(shared_bytes) > ncafast::cuda::shared_memory_limit()) {
    throw std::runtime_error("kernel launch: too much shared memory, " + std::to_string(shared_bytes) + " bytes");
  }
  std::tuple<P...> values(static_cast<P>(arguments)...);
  submit({[kernel, values] { std::apply(kernel, values); }, grid, block, shared_bytes, together, dependent});
  if (ncafast::cuda::synchronous_launches()) finish();
}

}  // namespace shim

namespace ncafast::cuda {

template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, void*, A&&... arguments) {
  shim::launch(1, false, kernel, grid, block, shared_bytes, arguments...);
}
template <class... P, class... A>
void launch_dependent(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, void*, A&&... arguments) {
  shim::launch(1, compute_capability() >= 90 && !plain_launches(), kernel, grid, block, shared_bytes, arguments...);
}
template <class... P, class... A>
void launch_cooperative(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, void*, A&&... arguments) {
  shim::launch(shim::count(grid), false, kernel, grid, block, shared_bytes, arguments...);
}
template <class... P, class... A>
void launch_cluster(void (*kernel)(P...), unsigned cluster, dim3 grid, dim3 block, size_t shared_bytes, void*,
                    A&&... arguments) {
  if (compute_capability() < 90) throw std::runtime_error("kernel launch: no clusters before sm_90");
  if (grid.x % cluster) throw std::runtime_error("kernel launch: the grid is no multiple of the cluster");
  shim::launch(cluster, false, kernel, grid, block, shared_bytes, arguments...);
}

// Over several arrays at once too, and what guards them; so AddressSanitizer does not look.
inline SHIM_PLAIN void memset_async(void* to, int byte, size_t bytes, void*) {
  shim::finish();
  volatile unsigned char* place = static_cast<unsigned char*>(to);  // not made a call of the watched memset
  for (size_t i = 0; i < bytes; ++i) place[i] = static_cast<unsigned char>(byte);
}
inline void memcpy_async(void* to, const void* from, size_t bytes, void*) {
  shim::finish();
  std::memcpy(to, from, bytes);
}

}  // namespace ncafast::cuda
