// Small kernels that the shim must run right, and faulty ones that it must catch: tests/test_cuda_shim.py. Compiled by
// nvcc it asks a GPU the same questions, fragment layouts above all, so that the shim itself can be checked.
//
//     selftest NAME                              exit code 0: as it should be; 1: wrong numbers, which are printed
//     selftest time [ROUNDS [MULTIPROCESSORS]]   what launches and barriers cost, as CSV: timings.h
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "cuda/arena.h"
#include "cuda/device.h"
#include "timings.h"

namespace gpu = ncafast::cuda;

namespace {

// Memory that host and device share, of exactly so many elements.
template <class T>
T* shared_with_device(size_t count) {
#ifdef __CUDACC__
  void* memory = nullptr;
  gpu::check(cudaMallocManaged(&memory, count * sizeof(T)), "cudaMallocManaged");
#else
  void* memory = std::malloc(count * sizeof(T));
#endif
  std::memset(memory, 0, count * sizeof(T));
  return static_cast<T*>(memory);
}

// Uninitialised memory that only kernels touch.
template <class T>
T* device_memory(size_t count) {
#ifdef __CUDACC__
  void* memory = nullptr;
  gpu::check(cudaMalloc(&memory, count * sizeof(T)), "cudaMalloc");
#else
  void* memory = std::malloc(count * sizeof(T));
#endif
  return static_cast<T*>(memory);
}

void synchronize() {
#ifdef __CUDACC__
  gpu::check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
#else
  shim::finish();
#endif
}

int wrong(const char* what, float found, float expected) {
  std::printf("%s: %g, expected %g\n", what, found, expected);
  return 1;
}

uint32_t noise_state = 12345;
float noise() {  // small whole numbers, so that every sum is exact in any order and any precision
  noise_state = noise_state * 1664525u + 1013904223u;
  return static_cast<float>(static_cast<int>(noise_state >> 28) - 8);
}

// ---- barriers

// Every thread writes its place and reads its neighbour's.
template <bool with_barrier>
__global__ void turn(float* out) {
  float* place = gpu::shared_memory<float>();
  place[threadIdx.x] = static_cast<float>(threadIdx.x);
  if (with_barrier) __syncthreads();
  out[threadIdx.x] = place[(threadIdx.x + 1) % blockDim.x];
}

template <bool with_barrier>
int barrier() {
  constexpr unsigned threads = 96;
  float* out = shared_with_device<float>(threads);
  gpu::launch(turn<with_barrier>, 1, threads, threads * sizeof(float), nullptr, out);
  synchronize();
  for (unsigned i = 0; i < threads; ++i) {
    if (!(out[i] == static_cast<float>((i + 1) % threads))) return wrong("neighbour", out[i], (i + 1) % threads);
  }
  return 0;
}

// Threads that stop at different barriers never meet.
__global__ void part_ways(float* out) {
  if (threadIdx.x < 32) gpu::barrier(1, 64);
  out[threadIdx.x] = 1;
}

int deadlock() {
  gpu::launch(part_ways, 1, 64, 0, nullptr, shared_with_device<float>(64));
  synchronize();
  return 0;
}

// The first warp's sum reaches the second by a barrier of the two, while the third goes its own way.
__global__ void two_warps(int* out) {
  NCAFAST_SHARED(int, sum, 1);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (warp == 2) return;
  if (warp == 0) {
    const int total = __reduce_add_sync(0xffffffffu, lane);
    if (lane == 0) sum[0] = total;
  }
  gpu::barrier(1, 64);
  if (warp == 1) out[lane] = sum[0];
}

int named_barrier() {
  int* out = shared_with_device<int>(32);
  gpu::launch(two_warps, 1, 96, 0, nullptr, out);
  synchronize();
  for (int i = 0; i < 32; ++i) {
    if (out[i] != 496) return wrong("sum", static_cast<float>(out[i]), 496);
  }
  return 0;
}

// ---- out of bounds

__global__ void read_at(const float* from, float* out, int place) { out[0] = from[place]; }

int outside_global() {
  gpu::launch(read_at, 1, 1, 0, nullptr, shared_with_device<float>(5), shared_with_device<float>(1), 5);
  synchronize();
  return 0;
}

__global__ void read_shared(float* out, int place) { out[0] = gpu::shared_memory<float>()[place]; }

int outside_shared() {
  gpu::launch(read_shared, 1, 1, 5 * sizeof(float), nullptr, shared_with_device<float>(1), 5);
  synchronize();
  return 0;
}

__global__ void read_array(float* out, int place) {
  NCAFAST_SHARED(float, array, 5);
  out[0] = array[place];
}

int outside_array() {
  gpu::launch(read_array, 1, 1, 0, nullptr, shared_with_device<float>(1), 5);
  synchronize();
  return 0;
}

// Two arrays of one piece of memory, whatever it is.
struct TwoArrays {
  float *first, *second;
  NCAFAST_HOST_DEVICE explicit TwoArrays(void* memory) {
    gpu::Arena arena(memory);
    first = arena.take<float>(5);
    second = arena.take<float>(5);
  }
};

__global__ void read_first(float* out, int place) {
  const TwoArrays arrays(gpu::shared_memory<unsigned char>());
  arrays.second[0] = 3;
  out[0] = arrays.first[place];
}

int outside_shared_of_arena() {
  gpu::launch(read_first, 1, 1, 256, nullptr, shared_with_device<float>(1), 5);
  synchronize();
  return 0;
}

int outside_workspace() {
  const TwoArrays arrays(shared_with_device<unsigned char>(256));
  gpu::launch(read_at, 1, 1, 0, nullptr, arrays.first, shared_with_device<float>(1), 5);
  synchronize();
  return 0;
}

// A piece of memory is set across its arrays, and freed, guards and all; the block after it may use it again.
__global__ void fill_both(float* out) {
  const TwoArrays arrays(gpu::shared_memory<unsigned char>());
  for (int i = 0; i < 5; ++i) arrays.first[i] = arrays.second[i] = static_cast<float>(i);
  out[blockIdx.x] = arrays.first[4] + arrays.second[4];
}

int arena() {
  float* out = shared_with_device<float>(3);
  unsigned char* memory = shared_with_device<unsigned char>(256);
  const TwoArrays arrays(memory);
  gpu::memset_async(memory, 0xff, 256, nullptr);
  gpu::launch(fill_both, 3, 1, 256, nullptr, out);
  synchronize();
  if (!std::isnan(arrays.first[4]) || !std::isnan(arrays.second[0])) return wrong("set", arrays.first[4], NAN);
  for (int i = 0; i < 3; ++i) {
    if (out[i] != 8) return wrong("sum", out[i], 8);
  }
  return 0;
}

int unwritten_shared() {
  float* out = shared_with_device<float>(1);
  gpu::launch(read_shared, 1, 1, 5 * sizeof(float), nullptr, out, 3);
  synchronize();
  return std::isnan(out[0]) ? 0 : wrong("unwritten shared memory", out[0], NAN);
}

// ---- warps

__global__ void collectives(int* out) {
  const int lane = threadIdx.x;
  const unsigned all = 0xffffffffu;
  int* row = out + 10 * lane;
  row[0] = __shfl_sync(all, lane, 5);
  row[1] = __shfl_xor_sync(all, lane, 3);
  row[2] = __shfl_up_sync(all, lane, 2, 8);
  row[3] = __shfl_down_sync(all, lane, 3, 16);
  row[4] = static_cast<int>(__ballot_sync(all, lane % 3 == 0));
  row[5] = __any_sync(all, lane == 40) * 2 + __all_sync(all, lane < 32);
  row[6] = __reduce_add_sync(all, lane - 20);
  row[7] = static_cast<int>(__reduce_max_sync(all, static_cast<unsigned>(lane * 7 % 32)));
  const unsigned half = lane < 16 ? 0xffffu : 0xffff0000u;
  row[8] = __shfl_sync(half, lane, lane < 16 ? 15 : 16);
  row[9] = __syncthreads_count(lane < 9);
}

int warp() {
  int* out = shared_with_device<int>(320);
  gpu::launch(collectives, 1, 32, 0, nullptr, out);
  synchronize();
  unsigned thirds = 0;
  for (int lane = 0; lane < 32; lane += 3) thirds |= 1u << lane;
  for (int lane = 0; lane < 32; ++lane) {
    const int expected[] = {5,
                            lane ^ 3,
                            lane % 8 < 2 ? lane : lane - 2,
                            lane % 16 + 3 > 15 ? lane : lane + 3,
                            static_cast<int>(thirds),
                            1,
                            496 - 640,
                            31,
                            lane < 16 ? 15 : 16,
                            9};
    for (int i = 0; i < 10; ++i) {
      if (out[10 * lane + i] != expected[i]) {
        std::printf("lane %d, collective %d\n", lane, i);
        return wrong("value", static_cast<float>(out[10 * lane + i]), static_cast<float>(expected[i]));
      }
    }
  }
  return 0;
}

__global__ void diverge(int* out) {
  const unsigned all = 0xffffffffu;
  out[threadIdx.x] = threadIdx.x < 7 ? __any_sync(all, 1) : __shfl_sync(all, 1, 0);
}

int divergence() {
  gpu::launch(diverge, 1, 32, 0, nullptr, shared_with_device<int>(32));
  synchronize();
  return 0;
}

// ---- tensor cores: d [16, 8] += a [16, K] b [K, 8], one warp

__global__ void multiply_tf32(const float* a, const float* b, float* d) {  // K = 8
  const int g = threadIdx.x / 4, t = threadIdx.x % 4;
  float sum[4];
  const uint32_t left[4] = {gpu::to_tf32(a[g * 8 + t]), gpu::to_tf32(a[(g + 8) * 8 + t]),
                            gpu::to_tf32(a[g * 8 + t + 4]), gpu::to_tf32(a[(g + 8) * 8 + t + 4])};
  for (int i = 0; i < 4; ++i) sum[i] = d[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
  gpu::mma_m16n8k8_tf32(sum, left, gpu::to_tf32(b[t * 8 + g]), gpu::to_tf32(b[(t + 4) * 8 + g]));
  for (int i = 0; i < 4; ++i) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}

__global__ void multiply_bf16(const float* a, const float* b, float* d) {  // K = 16
  const int g = threadIdx.x / 4, t = threadIdx.x % 4;
  float sum[4];
  uint32_t left[4], right[2];
  for (int i = 0; i < 4; ++i) {
    const float* pair = a + (g + i % 2 * 8) * 16 + 2 * t + i / 2 * 8;
    left[i] = gpu::to_bf16x2(pair[0], pair[1]);
  }
  for (int i = 0; i < 2; ++i) {
    const float* pair = b + (2 * t + 8 * i) * 8 + g;
    right[i] = gpu::to_bf16x2(pair[0], pair[8]);
  }
  for (int i = 0; i < 4; ++i) sum[i] = d[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
  gpu::mma_m16n8k16_bf16(sum, left, right[0], right[1]);
  for (int i = 0; i < 4; ++i) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}

// The same, with `a` row-major and `b` row-major as bfloat16 in shared memory, fetched by load_matrix.
__global__ void multiply_fetched(const float* a, const float* b, float* d) {
  uint32_t* rows = gpu::shared_memory<uint32_t>();  // a: 16 rows of 8 words; b: 16 rows of 4 words
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  for (int i = lane; i < 128; i += 32) rows[i] = gpu::to_bf16x2(a[2 * i], a[2 * i + 1]);
  for (int i = lane; i < 64; i += 32) rows[128 + i] = gpu::to_bf16x2(b[2 * i], b[2 * i + 1]);
  __syncwarp();
  uint32_t left[4], right[4];
  gpu::load_matrix_x4(left, rows + lane % 16 * 8 + lane / 16 * 4);
  gpu::load_matrix_x4_transposed(right, rows + 128 + lane % 16 * 4);
  float sum[4];
  for (int i = 0; i < 4; ++i) sum[i] = d[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
  gpu::mma_m16n8k16_bf16(sum, left, right[0], right[1]);
  for (int i = 0; i < 4; ++i) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}

template <int K>
int mma(void (*kernel)(const float*, const float*, float*)) {
  float *a = shared_with_device<float>(16 * K), *b = shared_with_device<float>(8 * K);
  float* d = shared_with_device<float>(128);
  std::vector<float> expected(128);
  for (int i = 0; i < 16 * K; ++i) a[i] = noise();
  for (int i = 0; i < 8 * K; ++i) b[i] = noise();
  for (int i = 0; i < 128; ++i) d[i] = expected[i] = noise();
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      for (int k = 0; k < K; ++k) expected[row * 8 + column] += a[row * K + k] * b[k * 8 + column];
    }
  }
  gpu::launch(kernel, 1, 32, 192 * sizeof(uint32_t), nullptr, a, b, d);
  synchronize();
  for (int i = 0; i < 128; ++i) {
    if (d[i] != expected[i]) return wrong("product", d[i], expected[i]);
  }
  return 0;
}

__global__ void round_all(const float* from, uint32_t* tf32, uint32_t* bf16) {
  tf32[threadIdx.x] = gpu::to_tf32(from[threadIdx.x]);
  bf16[threadIdx.x] = gpu::to_bf16x2(from[threadIdx.x], 1.0f);
}

int rounding() {
  const uint32_t one = 0x3f800000u;
  const uint32_t from[] = {one,          one + 0xfff,   one + 0x1000, one + 0x7fff,
                           one + 0x8000, one + 0x18000, one + 0x8001, 0x80000000u};
  const uint32_t tf32[] = {one,          one,           one + 0x2000, one + 0x8000,
                           one + 0x8000, one + 0x18000, one + 0x8000, 0x80000000u};
  const uint32_t bf16[] = {0x3f80, 0x3f80, 0x3f80, 0x3f80, 0x3f80, 0x3f82, 0x3f81, 0x8000};
  float* in = shared_with_device<float>(8);
  uint32_t *narrow = shared_with_device<uint32_t>(8), *half = shared_with_device<uint32_t>(8);
  std::memcpy(in, from, sizeof(from));
  gpu::launch(round_all, 1, 8, 0, nullptr, in, narrow, half);
  synchronize();
  for (int i = 0; i < 8; ++i) {
    // Of TF32 all bits, although products read 19 of them: 3xTF32 subtracts the result as a float.
    if (narrow[i] != tf32[i] || half[i] != (bf16[i] | 0x3f800000u)) {
      std::printf("number %d (%08x): %08x, %08x\n", i, from[i], narrow[i], half[i]);
      return 1;
    }
  }
  return 0;
}

// ---- asynchronous copies

// Two groups; the first is read after `pending` are left under way.
template <int pending>
__global__ void copy(const float* from, float* out) {
  float* to = gpu::shared_memory<float>();
  const int i = threadIdx.x;
  gpu::copy_async<16>(to + 4 * i, from + 4 * i);
  gpu::copy_async_commit();
  gpu::copy_async<4>(to + 128 + i, from + 128 + i, i % 2 == 0);
  gpu::copy_async_commit();
  gpu::copy_async_wait<pending>();
  for (int k = 0; k < 4; ++k) out[4 * i + k] = to[4 * i + k];
  gpu::copy_async_wait();
  out[128 + i] = to[128 + i];
}

template <int pending>
int async_copy() {
  float *from = shared_with_device<float>(160), *out = shared_with_device<float>(160);
  for (int i = 0; i < 160; ++i) from[i] = 1 + noise() / 16;
  gpu::launch(copy<pending>, 1, 32, 160 * sizeof(float), nullptr, from, out);
  synchronize();
  for (int i = 0; i < 160; ++i) {
    const float expected = i >= 128 && i % 2 ? 0 : from[i];
    if (!(out[i] == expected)) return wrong("copied", out[i], expected);
  }
  return 0;
}

// ---- many blocks

template <bool with_sync>
__global__ void turn_blocks(float* place, float* out) {
  if (threadIdx.x == 0) place[blockIdx.x] = static_cast<float>(blockIdx.x);
  if (with_sync) gpu::grid_sync();
  if (threadIdx.x == 32) out[blockIdx.x] = place[(blockIdx.x + 1) % gridDim.x];
}

template <bool with_sync>
int grid() {
  constexpr unsigned blocks = 24;
  float *place = shared_with_device<float>(blocks), *out = shared_with_device<float>(blocks);
  for (unsigned i = 0; i < blocks; ++i) place[i] = NAN;
  gpu::launch_cooperative(turn_blocks<with_sync>, blocks, 64, 0, nullptr, place, out);
  synchronize();
  for (unsigned i = 0; i < blocks; ++i) {
    if (!(out[i] == static_cast<float>((i + 1) % blocks))) return wrong("neighbour", out[i], (i + 1) % blocks);
  }
  return 0;
}

// A block writes its number for the one after it, which waits for the word that says so.
__global__ void relay(uint32_t* words, uint32_t* out) {
  if (blockIdx.x > 0) {
    while (gpu::load_acquire(words + blockIdx.x) == 0) {
    }
  }
  out[blockIdx.x] = blockIdx.x > 0 ? out[blockIdx.x - 1] + blockIdx.x : 0;
  if (blockIdx.x + 1 < gridDim.x) gpu::store_release(words + blockIdx.x + 1, 1);
}

int words() {
  uint32_t *flags = shared_with_device<uint32_t>(9), *out = shared_with_device<uint32_t>(9);
  gpu::launch_cooperative(relay, 9, 1, 0, nullptr, flags, out);
  synchronize();
  return out[8] == 36 ? 0 : wrong("sum", static_cast<float>(out[8]), 36);
}

template <bool with_sync>
__global__ void turn_cluster(float* out) {
  NCAFAST_SHARED(float, fixed, 32);
  float* place = gpu::shared_memory<float>();
  place[threadIdx.x] = static_cast<float>(100 * blockIdx.x + threadIdx.x);
  fixed[threadIdx.x] = -place[threadIdx.x];
  if (with_sync) gpu::cluster_sync();
  const unsigned other = (gpu::cluster_rank() + 1) % gpu::cluster_blocks();
  const float seen = gpu::cluster_map(place, other)[threadIdx.x], less = gpu::cluster_map(fixed, other)[threadIdx.x];
  out[32 * blockIdx.x + threadIdx.x] = seen - less;
  gpu::cluster_sync();  // nobody ends while another reads
}

template <bool with_sync>
int cluster() {
  float* out = shared_with_device<float>(32 * 12);
  gpu::launch_cluster(turn_cluster<with_sync>, 4, 12, 32, 32 * sizeof(float), nullptr, out);
  synchronize();
  for (unsigned i = 0; i < 32 * 12; ++i) {
    const unsigned block = i / 32, other = block / 4 * 4 + (block + 1) % 4;
    const float expected = static_cast<float>(2 * (100 * other + i % 32));
    if (!(out[i] == expected)) return wrong("other block's memory", out[i], expected);
  }
  return 0;
}

// Each block of a cluster adds its neighbours' numbers to its own, again and again, from one array into the other. With
// one meeting a turn none is overtaken: a number is read in the turn after it was written, and written over a turn
// later.
template <bool with_sync>
__global__ void exchange(float* out, int turns) {
  float *now = gpu::shared_memory<float>(), *next = now + 32;
  const unsigned rank = gpu::cluster_rank(), blocks = gpu::cluster_blocks();
  now[threadIdx.x] = static_cast<float>(rank);
  gpu::cluster_sync();
  for (int turn = 0; turn < turns; ++turn) {
    const float left = gpu::cluster_map(now, (rank + blocks - 1) % blocks)[threadIdx.x];
    const float right = gpu::cluster_map(now, (rank + 1) % blocks)[31 - threadIdx.x];
    next[threadIdx.x] = now[threadIdx.x] + left + right;
    if (with_sync || turn % 2 == 0) gpu::cluster_sync();
    float* const swapped = now;
    now = next;
    next = swapped;
  }
  gpu::cluster_sync();  // nobody ends while another reads
  out[32 * blockIdx.x + threadIdx.x] = now[threadIdx.x];
}

template <bool with_sync>
int cluster_turns() {
  constexpr int blocks = 5, turns = 6;
  float* out = shared_with_device<float>(32 * 2 * blocks);
  gpu::launch_cluster(exchange<with_sync>, blocks, 2 * blocks, 32, 64 * sizeof(float), nullptr, out, turns);
  synchronize();
  std::vector<float> now(blocks), next(blocks);
  for (int i = 0; i < blocks; ++i) now[i] = static_cast<float>(i);
  for (int turn = 0; turn < turns; ++turn) {
    for (int i = 0; i < blocks; ++i) next[i] = now[i] + now[(i + blocks - 1) % blocks] + now[(i + 1) % blocks];
    std::swap(now, next);
  }
  for (int i = 0; i < 64 * blocks; ++i) {
    if (!(out[i] == now[i / 32 % blocks])) return wrong("sum", out[i], now[i / 32 % blocks]);
  }
  return 0;
}

// The first block is gone before the second reads its memory.
__global__ void leave(float* out) {
  float* place = gpu::shared_memory<float>();
  place[0] = 1;
  gpu::cluster_sync();
  if (gpu::cluster_rank() == 0) return;
  for (int i = 0; i < 1000; ++i) __nanosleep(1);
  out[0] = gpu::cluster_map(place, 0)[0];
}

int cluster_left() {
  gpu::launch_cluster(leave, 2, 2, 1, sizeof(float), nullptr, shared_with_device<float>(1));
  synchronize();
  return 0;
}

template <bool with_wait>
__global__ void double_all(float* values) {
  if (with_wait) gpu::grid_dependency_wait();
  values[blockIdx.x * blockDim.x + threadIdx.x] *= 2;
}
__global__ void set_all(float* values, float to) {
  gpu::grid_dependency_wait();
  values[blockIdx.x * blockDim.x + threadIdx.x] = to;
  gpu::grid_dependency_release();
}

template <bool with_wait>
int dependent() {
  float* values = shared_with_device<float>(96);
  gpu::launch(set_all, 3, 32, 0, nullptr, values, 3.0f);
  gpu::launch_dependent(double_all<with_wait>, 3, 32, 0, nullptr, values);
  gpu::launch_dependent(double_all<with_wait>, 3, 32, 0, nullptr, values);
  synchronize();
  for (int i = 0; i < 96; ++i) {
    if (values[i] != 12) return wrong("value", values[i], 12);
  }
  return 0;
}

// ---- atomics

__global__ void count_up(int* counter, float* sum, unsigned* last) {
  atomicAdd(counter, 1);
  atomicAdd(sum, 0.5f);
  atomicMax(last, blockIdx.x * blockDim.x + threadIdx.x);
}

int atomics() {
  int* counter = shared_with_device<int>(1);
  float* sum = shared_with_device<float>(1);
  unsigned* last = shared_with_device<unsigned>(1);
  gpu::launch(count_up, 5, 64, 0, nullptr, counter, sum, last);
  synchronize();
  return *counter == 320 && *sum == 160 && *last == 319 ? 0 : wrong("counter", static_cast<float>(*counter), 320);
}

// ---- times

int time_all(int rounds, int multiprocessors) {
#ifdef __CUDACC__
  if (multiprocessors == 0) multiprocessors = gpu::device_attribute(cudaDevAttrMultiProcessorCount);
#endif
  const size_t stores = static_cast<size_t>(16 * 2 * std::max(multiprocessors, 8) * timings::threads);
  timings::run(multiprocessors, rounds, device_memory<timings::Words>(stores));
  return 0;
}

const std::map<std::string, int (*)()> tests = {
    {"barrier", barrier<true>},
    {"barrier missing", barrier<false>},
    {"deadlock", deadlock},
    {"named barrier", named_barrier},
    {"outside global", outside_global},
    {"outside shared", outside_shared},
    {"outside array", outside_array},
    {"outside shared of arena", outside_shared_of_arena},
    {"outside workspace", outside_workspace},
    {"arena", arena},
    {"unwritten shared", unwritten_shared},
    {"warp", warp},
    {"divergence", divergence},
    {"mma tf32", [] { return mma<8>(multiply_tf32); }},
    {"mma bf16", [] { return mma<16>(multiply_bf16); }},
    {"load matrix", [] { return mma<16>(multiply_fetched); }},
    {"rounding", rounding},
    {"async copy", async_copy<1>},
    {"async copy not awaited", async_copy<2>},
    {"grid sync", grid<true>},
    {"grid sync missing", grid<false>},
    {"words", words},
    {"cluster", cluster<true>},
    {"cluster sync missing", cluster<false>},
    {"cluster turns", cluster_turns<true>},
    {"cluster turns, sync missing", cluster_turns<false>},
    {"cluster left", cluster_left},
    {"dependent launch", dependent<true>},
    {"dependent launch not awaited", dependent<false>},
    {"atomics", atomics},
};

}  // namespace

int main(int count, char** words) {
  const bool timed = count > 1 && std::strcmp(words[1], "time") == 0;
  const auto found = tests.find(words[1] ? words[1] : "");
  if (!timed && found == tests.end()) {
    for (const auto& test : tests) std::printf("%s\n", test.first.c_str());
    return 2;
  }
  try {
    if (timed) return time_all(count > 2 ? std::atoi(words[2]) : 200, count > 3 ? std::atoi(words[3]) : 0);
    return found->second();
  } catch (const std::exception& error) {
    std::printf("%s\n", error.what());
    return 3;
  }
}
