// What kernels and their launches ask of CUDA by name: every PTX instruction, shared memory, launches, queries. Nothing
// else in csrc/cuda holds PTX or calls the CUDA runtime.
//
// tests/backends/cuda_shim gives the same names a meaning on the CPU, so that g++ compiles and runs the very same
// kernels: what is added here is added there. A kernel that should run there
//   - takes shared memory from shared_memory<T>() and NCAFAST_SHARED, never from a plain __shared__,
//   - waits for another thread's word with load_acquire, never by reading it in a loop,
//   - starts nothing but through the launch functions below.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__

#include <cooperative_groups.h>
#include <cuda_runtime.h>
#include <cxxabi.h>

#include <array>
#include <cstdlib>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <tuple>

#include "switches.h"

#define NCAFAST_DEVICE __device__ __forceinline__

// A static array in shared memory: NCAFAST_SHARED(float, sums, 32) declares `float sums[32]`.
#define NCAFAST_SHARED(type, name, count) __shared__ __align__(16) type name[count]

namespace ncafast::cuda {

// ---- a block's dynamic shared memory, aligned to 128 bytes

template <class T>
NCAFAST_DEVICE T* shared_memory() {
  extern __shared__ __align__(128) unsigned char ncafast_shared_memory[];
  return reinterpret_cast<T*>(ncafast_shared_memory);
}

// Four floats to shared memory at a multiple of 16 bytes: in one instruction, which the compiler makes four of where
// they are the results of others.
NCAFAST_DEVICE void store_shared(float* to, const float4& value) {
  const uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("st.shared.v4.f32 [%0], {%1,%2,%3,%4};" ::"r"(at), "f"(value.x), "f"(value.y), "f"(value.z), "f"(value.w)
               : "memory");
}

// ---- between the arrays that an Arena cuts from one piece of memory: nothing here; under the shim a few bytes that
// nobody may touch

constexpr int64_t guard_bytes = 0;
__host__ __device__ inline void guard(void*, int64_t) {}

// ---- rounding

// To the 10 bits of mantissa that tensor cores read of a float, to nearest, ties away from zero.
NCAFAST_DEVICE uint32_t to_tf32(float value) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
}

// The smaller of a + b, which wraps, and `most`: one instruction on sm_90 and newer.
NCAFAST_DEVICE uint32_t add_min(uint32_t a, uint32_t b, uint32_t most) { return __viaddmin_u32(a, b, most); }

// Half of TF32's last bit added to the bits of four numbers, so that leaving out 13 of them rounds to nearest, ties
// away from zero. Where one is none, all four are left as they are: one question for two of them instead of one for
// each.
NCAFAST_DEVICE void add_half_tf32(float (&four)[4]) {
  uint32_t bits[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) bits[i] = __float_as_uint(four[i]);
  asm("{ .reg .pred numbers; .reg .u32 half; setp.num.f32 numbers, %0, %1; setp.num.and.f32 numbers, %2, %3, numbers; "
      "selp.u32 half, 0x1000, 0, numbers; add.u32 %0, %0, half; add.u32 %1, %1, half; add.u32 %2, %2, half; "
      "add.u32 %3, %3, half; }"
      : "+r"(bits[0]), "+r"(bits[1]), "+r"(bits[2]), "+r"(bits[3]));
#pragma unroll
  for (int i = 0; i < 4; ++i) four[i] = __uint_as_float(bits[i]);
}

// Two floats as bfloat16, to nearest even: `low` in the lower half, where an MMA expects the smaller k.
NCAFAST_DEVICE uint32_t to_bf16x2(float low, float high) {
  uint32_t bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}

// Half precision in memory: to nearest even, and back.
NCAFAST_DEVICE uint16_t to_f16(float value) {
  uint16_t bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

NCAFAST_DEVICE float from_f16(uint16_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

NCAFAST_DEVICE uint16_t to_bf16(float value) {
  uint16_t bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

NCAFAST_DEVICE float from_bf16(uint16_t bits) { return __uint_as_float(static_cast<uint32_t>(bits) << 16); }

// The larger of two, NaN where one of them is.
NCAFAST_DEVICE float max_nan(float a, float b) {
  float larger;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
  return larger;
}

// ---- tensor cores: d += a b, with the fragments of the PTX manual, g = lane / 4 and t = lane % 4.

// [16, 8] += [16, 8] [8, 8], TF32.
//   a: (g, t) (g + 8, t) (g, t + 4) (g + 8, t + 4);  b: (t, g) (t + 4, g);  d: (g, 2t) (g, 2t + 1) (g + 8, 2t) (g + 8,
//   2t + 1)
NCAFAST_DEVICE void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// [16, 8] += [16, 16] [16, 8], bfloat16; a register holds columns (rows of b) 2t and 2t + 1.
//   a: (g, 2t) (g + 8, 2t) (g, 2t + 8) (g + 8, 2t + 8);  b: (2t, g) (2t + 8, g);  d as above
NCAFAST_DEVICE void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// A place in shared memory in 32 bits, so that steps along a row are part of the instruction that reads it.
using SharedPlace = uint32_t;
NCAFAST_DEVICE SharedPlace shared_place(const void* at) { return static_cast<uint32_t>(__cvta_generic_to_shared(at)); }

// Four 8 x 8 matrices of 16-bit numbers from shared memory. Lane l names row l % 8 of matrix l / 8 (16 bytes, aligned);
// register i gets columns 2t and 2t + 1 of row g of matrix i.
NCAFAST_DEVICE void load_matrix_x4(uint32_t (&to)[4], SharedPlace at) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(at)
               : "memory");
}

NCAFAST_DEVICE void load_matrix_x4(uint32_t (&to)[4], const void* row) { load_matrix_x4(to, shared_place(row)); }

// The same with every matrix transposed: rows 2t and 2t + 1 of column g.
NCAFAST_DEVICE void load_matrix_x4_transposed(uint32_t (&to)[4], const void* row) {
  const uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(at)
               : "memory");
}

// ---- asynchronous copies, global to shared. What was copied may be read after copy_async_wait and, by other threads,
// a barrier. With `from_there` false the place is filled with zeros and `from` is not read.

template <int bytes>  // 4, 8 or 16; both addresses are multiples of it
NCAFAST_DEVICE void copy_async(void* to_shared, const void* from, bool from_there = true) {
  static_assert(bytes == 4 || bytes == 8 || bytes == 16, "cp.async copies 4, 8 or 16 bytes");
  const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(to_shared));
  const int read = from_there ? bytes : 0;
  if constexpr (bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(read) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(from), "n"(bytes), "r"(read)
                 : "memory");
  }
}

// Of 16 bytes, which are there where a number is not negative.
NCAFAST_DEVICE void copy_async_of(int number, void* to_shared, const void* from) {
  const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(to_shared));
  asm volatile(
      "{ .reg .pred nothing; setp.lt.s32 nothing, %2, 0; cp.async.cg.shared.global [%0], [%1], 16, nothing; }" ::"r"(
          to),
      "l"(from), "r"(number)
      : "memory");
}

// Closes a group of this thread's copies.
NCAFAST_DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Until at most the `pending` newest groups of this thread are under way.
template <int pending = 0>
NCAFAST_DEVICE void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// ---- barriers

// Of some warps of the block: `id` 1 to 15, `threads` a multiple of 32.
NCAFAST_DEVICE void barrier(int id, int threads) {
  asm volatile("barrier.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Of all blocks of launch_cooperative.
NCAFAST_DEVICE void grid_sync() { cooperative_groups::this_grid().sync(); }

// ---- words that threads of different blocks tell each other something by

NCAFAST_DEVICE uint32_t load_acquire(const uint32_t* from) {
  uint32_t value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
}

NCAFAST_DEVICE void store_release(uint32_t* to, uint32_t value) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
}

// Adds, after everything that this thread wrote before; returns the value before.
NCAFAST_DEVICE uint32_t add_release(uint32_t* to, uint32_t value) {
  uint32_t before;
  asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], %2;" : "=r"(before) : "l"(to), "r"(value) : "memory");
  return before;
}

// ---- clusters (sm_90 and newer; a kernel of launch_cluster must not be started elsewhere)

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define NCAFAST_HAS_CLUSTERS 1
#else
#define NCAFAST_HAS_CLUSTERS 0
#endif

NCAFAST_DEVICE unsigned cluster_rank() {
#if NCAFAST_HAS_CLUSTERS
  unsigned rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
#else
  return 0;
#endif
}

NCAFAST_DEVICE unsigned cluster_blocks() {
#if NCAFAST_HAS_CLUSTERS
  unsigned count;
  asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(count));
  return count;
#else
  return 1;
#endif
}

// All threads of the cluster, in two halves: what was written before arrive is seen after wait.
NCAFAST_DEVICE void cluster_arrive() {
#if NCAFAST_HAS_CLUSTERS
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}

NCAFAST_DEVICE void cluster_wait() {
#if NCAFAST_HAS_CLUSTERS
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

NCAFAST_DEVICE void cluster_sync() {
  cluster_arrive();
  cluster_wait();
}

// The same place in the shared memory of another block of the cluster. That block must not have ended.
template <class T>
NCAFAST_DEVICE T* cluster_map(T* shared, unsigned rank) {
#if NCAFAST_HAS_CLUSTERS
  uint64_t there;
  asm volatile("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"(shared), "r"(rank));
  return reinterpret_cast<T*>(there);
#else
  return shared;
#endif
}

// ---- programmatic dependent launch (sm_90 and newer, nothing elsewhere): a kernel of launch_dependent may start
// before the one before it has ended, and reads what that wrote, or writes what that reads, only after
// grid_dependency_wait.

NCAFAST_DEVICE void grid_dependency_wait() {
#if NCAFAST_HAS_CLUSTERS
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Lets the next kernel start once all blocks have said so or ended.
NCAFAST_DEVICE void grid_dependency_release() {
#if NCAFAST_HAS_CLUSTERS
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// ---- host: errors, queries, launches, memory

inline void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status) + " (" + cudaGetErrorName(status) +
                             ")");
  }
}

inline void set_device(int device) { check(cudaSetDevice(device), "cudaSetDevice"); }

// After the last launch of a call: nothing here, where the device goes on by itself. The shim runs what is left.
inline void end_of_launches() {}

inline int current_device() {
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  return device;
}

// What is asked of a device on every call and never changes: asked once, by device, kernel and numbers.
template <class Ask>
int remembered(const void* kernel, std::array<int64_t, 3> numbers, Ask ask) {
  static std::mutex alone;
  static std::map<std::tuple<int, const void*, std::array<int64_t, 3>>, int> answers;  // each Ask has its own
  const std::lock_guard<std::mutex> lock(alone);
  const int device = current_device();
  const auto [found, is_new] = answers.try_emplace({device, kernel, numbers}, 0);
  if (is_new) {
    try {
      found->second = ask(device);
    } catch (...) {
      answers.erase(found);
      throw;
    }
  }
  return found->second;
}

inline int device_attribute(cudaDeviceAttr attribute) {
  return remembered(nullptr, {attribute, 0, 0}, [attribute](int device) {
    int value = 0;
    check(cudaDeviceGetAttribute(&value, attribute, device), "cudaDeviceGetAttribute");
    return value;
  });
}

// 80, 86, 90, ...
inline int compute_capability() {
  return 10 * device_attribute(cudaDevAttrComputeCapabilityMajor) + device_attribute(cudaDevAttrComputeCapabilityMinor);
}

inline std::string cuda_version(int number) {
  return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

// Why the driver cannot run this build's kernels on any device, or nothing.
inline std::string driver_refusal() {
  int driver = 0, runtime = 0;
  check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  if (driver / 1000 >= runtime / 1000) return {};  // drivers run what was built for any CUDA of their major version
  return "the GPU's driver is for CUDA " + cuda_version(driver) + ", the kernels were built for CUDA " +
         cuda_version(runtime) + ": install a newer driver, or build them with an older nvcc";
}

// Why the current device cannot run this kernel, or nothing.
template <class... P>
std::string device_refusal(void (*kernel)(P...)) {
  const std::string architecture = std::to_string(compute_capability());
  if (compute_capability() < 80) return "the GPU is sm_" + architecture + ", sm_80 or newer is needed";
  cudaFuncAttributes has;
  const cudaError_t status = cudaFuncGetAttributes(&has, reinterpret_cast<const void*>(kernel));
  if (status == cudaSuccess) return {};
  cudaGetLastError();  // it is an answer, not an error to leave behind
  if (status == cudaErrorNoKernelImageForDevice || status == cudaErrorInvalidDeviceFunction ||
      status == cudaErrorUnsupportedPtxVersion) {
    return "the kernels were not built for this GPU, which is sm_" + architecture +
           ": build them again with NCAFAST_CUDA_ARCHS=" + architecture;
  }
  return std::string("the GPU cannot be used: ") + cudaGetErrorString(status);
}

// Bytes of shared memory that a block can have.
inline int64_t shared_memory_limit() { return device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin); }

constexpr size_t shared_memory_default = 48 * 1024;  // what a kernel may have without being allowed more

// All that a kernel without static arrays can have; it takes no more than a launch asks for.
template <class... P>
void allow_shared_memory(void (*kernel)(P...), size_t bytes) {
  if (bytes <= shared_memory_default) return;
  const void* const function = reinterpret_cast<const void*>(kernel);
  remembered(function, {}, [function](int) {
    cudaFuncAttributes has;
    check(cudaFuncGetAttributes(&has, function), "a kernel's attributes");
    const int64_t most = device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin) - has.sharedSizeBytes;
    check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(most)),
          "a block's shared memory");
    return 1;
  });
}

// Blocks of so many threads that are on a multiprocessor at once.
template <class... P>
int blocks_per_multiprocessor(void (*kernel)(P...), int threads, size_t shared_bytes) {
  allow_shared_memory(kernel, shared_bytes);
  return remembered(reinterpret_cast<const void*>(kernel), {threads, static_cast<int64_t>(shared_bytes), 0}, [=](int) {
    int blocks = 0;
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, threads, shared_bytes), "occupancy");
    return blocks;
  });
}

struct LaunchKind {
  bool cooperative = false, dependent = false;
  unsigned cluster = 1;
};

// A launch's configuration as the runtime wants it; the attributes live in it.
class Configuration {
 public:
  Configuration(dim3 grid, dim3 block, size_t shared_bytes, void* stream, LaunchKind kind) {
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = static_cast<cudaStream_t>(stream);
    if (kind.cooperative) add(cudaLaunchAttributeCooperative).cooperative = 1;
    if (kind.dependent)
      add(cudaLaunchAttributeProgrammaticStreamSerialization).programmaticStreamSerializationAllowed = 1;
    if (kind.cluster > 1) {
      auto& size = add(cudaLaunchAttributeClusterDimension).clusterDim;
      size.x = kind.cluster;
      size.y = size.z = 1;
    }
    config.attrs = attributes_;
  }
  Configuration(const Configuration&) = delete;

  cudaLaunchConfig_t config{};

 private:
  cudaLaunchAttributeValue& add(cudaLaunchAttributeID id) {
    cudaLaunchAttribute& attribute = attributes_[config.numAttrs++];
    attribute.id = id;
    return attribute.val;
  }

  cudaLaunchAttribute attributes_[3]{};
};

// Clusters of so many blocks that are on the device at once; 0 where it has none.
template <class... P>
int active_clusters(void (*kernel)(P...), unsigned cluster, int threads, size_t shared_bytes) {
  if (compute_capability() < 90) return 0;
  if (cluster == 1)
    return blocks_per_multiprocessor(kernel, threads, shared_bytes) * device_attribute(cudaDevAttrMultiProcessorCount);
  allow_shared_memory(kernel, shared_bytes);
  const void* const function = reinterpret_cast<const void*>(kernel);
  return remembered(function, {threads, static_cast<int64_t>(shared_bytes), cluster}, [=](int) {
    if (cluster > 8) {
      check(cudaFuncSetAttribute(function, cudaFuncAttributeNonPortableClusterSizeAllowed, 1),
            "clusters of more than 8 blocks");
    }
    Configuration configuration(dim3(cluster), dim3(static_cast<unsigned>(threads)), shared_bytes, nullptr,
                                {false, false, cluster});
    int clusters = 0;
    if (cudaOccupancyMaxActiveClusters(&clusters, kernel, &configuration.config) != cudaSuccess) {
      cudaGetLastError();  // a size that the device does not have is an answer, not an error to leave behind
      return 0;
    }
    return clusters;
  });
}

// As the source names it, with its template arguments.
inline std::string kernel_name(const void* kernel) {
  const char* mangled = nullptr;
  if (cudaFuncGetName(&mangled, kernel) != cudaSuccess) return "a kernel";
  char* const demangled = abi::__cxa_demangle(mangled, nullptr, nullptr, nullptr);
  const std::string name = demangled ? demangled : mangled;
  std::free(demangled);
  return name;
}

// Waits for a kernel; nothing in a stream that is being captured, where nothing runs.
inline void finish_kernel(const std::string& name, cudaStream_t stream) {
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream, &capture), "cudaStreamIsCapturing");
  if (capture == cudaStreamCaptureStatusNone) check(cudaStreamSynchronize(stream), name.c_str());
}

template <class... P, class... A>
void launch_as(LaunchKind kind, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, void* stream,
               A&&... arguments) {
  allow_shared_memory(kernel, shared_bytes);
  const Configuration configuration(grid, block, shared_bytes, stream, kind);
  const void* const function = reinterpret_cast<const void*>(kernel);
  // Asked before the launch: after a kernel's error no call of the runtime answers.
  const std::string name = synchronous_launches() ? kernel_name(function) : std::string();
  check(cudaLaunchKernelEx(&configuration.config, kernel, static_cast<P>(arguments)...),
        name.empty() ? "kernel launch (NCAFAST_CUDA_SYNC=1 names the kernel)" : name.c_str());
  if (synchronous_launches()) finish_kernel(name, configuration.config.stream);
}

template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, void* stream, A&&... arguments) {
  launch_as({}, kernel, grid, block, shared_bytes, stream, arguments...);
}

// May start before the kernel before it on the stream has ended: see grid_dependency_wait. Plain before sm_90, and
// where NCAFAST_CUDA_PLAIN_LAUNCH=1 asks for it.
template <class... P, class... A>
void launch_dependent(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, void* stream,
                      A&&... arguments) {
  launch_as({false, compute_capability() >= 90 && !plain_launches(), 1}, kernel, grid, block, shared_bytes, stream,
            arguments...);
}

// All blocks at once on the device, so that grid_sync works; fails where they do not fit.
template <class... P, class... A>
void launch_cooperative(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, void* stream,
                        A&&... arguments) {
  launch_as({true, false, 1}, kernel, grid, block, shared_bytes, stream, arguments...);
}

// Blocks in clusters of so many along x.
template <class... P, class... A>
void launch_cluster(void (*kernel)(P...), unsigned cluster, dim3 grid, dim3 block, size_t shared_bytes, void* stream,
                    A&&... arguments) {
  launch_as({false, false, cluster}, kernel, grid, block, shared_bytes, stream, arguments...);
}

inline void memset_async(void* to, int byte, size_t bytes, void* stream) {
  check(cudaMemsetAsync(to, byte, bytes, static_cast<cudaStream_t>(stream)), "cudaMemsetAsync");
}

inline void memcpy_async(void* to, const void* from, size_t bytes, void* stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, static_cast<cudaStream_t>(stream)),
        "cudaMemcpyAsync");
}

}  // namespace ncafast::cuda

#elif !defined(NCAFAST_CUDA_SHIM)
#error "csrc/cuda is compiled by nvcc, or by a C++ compiler with -include tests/backends/cuda_shim/shim.h"
#endif
