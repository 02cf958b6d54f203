// What launches and barriers cost: `selftest time` prints CSV, nanoseconds each. On a GPU by its own events; under the
// shim, which shows only that these kernels are right, by the host's clock.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <vector>

#include "cuda/device.h"

namespace timings {

namespace gpu = ncafast::cuda;

constexpr int threads = 256, repeats = 15;

enum class Stores { none, before, between };  // of each thread, 16 bytes: before a barrier, or between its two halves
constexpr const char* store_names[] = {"none", "before", "between"};

struct Words {
  uint32_t word[4];
};

// Some milliseconds, in which the host queues what comes after.
__global__ void sleep(int microseconds) {
  for (int i = 0; i < microseconds; ++i) __nanosleep(1000);
}

__global__ void nothing() {
  gpu::grid_dependency_wait();
  gpu::grid_dependency_release();
}

NCAFAST_DEVICE void store(Words* to, int round) {
  const uint32_t value = static_cast<uint32_t>(round);
  to[(static_cast<size_t>(round % 16) * gridDim.x + blockIdx.x) * threads + threadIdx.x] = {value, value, value, value};
}

__global__ void meet_as_grid(Words* to, int rounds, bool stores) {
  for (int round = 0; round < rounds; ++round) {
    if (stores) store(to, round);
    gpu::grid_sync();
  }
}

template <Stores stores>
__global__ void meet_as_cluster(Words* to, int rounds) {
  for (int round = 0; round < rounds; ++round) {
    if (stores == Stores::before) store(to, round);
    gpu::cluster_arrive();
    if (stores == Stores::between) store(to, round);
    gpu::cluster_wait();
  }
}

// Nanoseconds between two points of the default stream.
class Stopwatch {
 public:
#ifdef __CUDACC__
  Stopwatch() {
    for (cudaEvent_t& event : events_) gpu::check(cudaEventCreate(&event), "cudaEventCreate");
  }
  ~Stopwatch() {
    for (cudaEvent_t event : events_) cudaEventDestroy(event);
  }
  void start() { gpu::check(cudaEventRecord(events_[0]), "cudaEventRecord"); }
  double stop() {
    float milliseconds = 0;
    gpu::check(cudaEventRecord(events_[1]), "cudaEventRecord");
    gpu::check(cudaEventSynchronize(events_[1]), "cudaEventSynchronize");
    gpu::check(cudaEventElapsedTime(&milliseconds, events_[0], events_[1]), "cudaEventElapsedTime");
    return 1e6 * milliseconds;
  }

 private:
  cudaEvent_t events_[2];
#else
  void start() { start_ = std::chrono::steady_clock::now(); }
  double stop() {
    shim::finish();
    return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_;
#endif
};

inline void print(const char* metric, int blocks, int cluster, Stores stores, std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t last = values.size() - 1;
  std::printf("%s,%d,%d,%s,%.1f,%.1f,%.1f\n", metric, blocks, cluster, store_names[static_cast<int>(stores)],
              values[last / 5], values[last / 2], values[last - last / 5]);
  std::fflush(stdout);
}

// One launch of `rounds` barriers and one of none, again and again: what a barrier costs.
template <class Launch>
void time_barrier(const char* metric, int blocks, int cluster, Stores stores, int rounds, Launch launch) {
  try {
    Stopwatch watch;
    std::vector<double> values;
    launch(rounds);
    for (int i = 0; i < repeats; ++i) {
      double taken[2];
      for (const int many : {0, 1}) {
        watch.start();
        launch(many * rounds);
        taken[many] = watch.stop();
      }
      values.push_back((taken[1] - taken[0]) / rounds);
    }
    print(metric, blocks, cluster, stores, values);
  } catch (const std::exception& error) {
    std::printf("# %s of %d blocks, clusters of %d: %s\n", metric, blocks, cluster, error.what());
  }
}

template <Stores stores>
void time_cluster(int cluster, int multiprocessors, int rounds, Words* to) {
  const int blocks = std::max(multiprocessors / cluster, 1) * cluster;
  time_barrier("cluster barrier", blocks, cluster, stores, rounds, [=](int many) {
    gpu::launch_cluster(meet_as_cluster<stores>, static_cast<unsigned>(cluster), dim3(static_cast<unsigned>(blocks)),
                        dim3(threads), 0, nullptr, to, many);
  });
}

// From the end of one kernel to that of the next, all of them queued before the first starts; and of the host.
inline void time_launches(bool dependent, int blocks, int rounds) {
  using clock = std::chrono::steady_clock;
  Stopwatch watch;
  std::vector<double> gaps, host;
  const dim3 grid(static_cast<unsigned>(blocks)), block(threads);
  for (int i = 0; i < repeats; ++i) {
    gpu::launch(sleep, 1, 1, 0, nullptr, 10 * rounds);
    watch.start();
    const clock::time_point start = clock::now();
    for (int k = 0; k < rounds; ++k) {
      if (dependent)
        gpu::launch_dependent(nothing, grid, block, 0, nullptr);
      else
        gpu::launch(nothing, grid, block, 0, nullptr);
    }
    host.push_back(std::chrono::duration<double, std::nano>(clock::now() - start).count() / rounds);
    gaps.push_back(watch.stop() / rounds);
  }
  print(dependent ? "launch dependent" : "launch plain", blocks, 1, Stores::none, gaps);
  print(dependent ? "launch dependent on the host" : "launch plain on the host", blocks, 1, Stores::none, host);
}

// All of it; `to` has room for 16 stores of each thread of twice as many blocks as there are multiprocessors.
inline void run(int multiprocessors, int rounds, Words* to) {
  gpu::launch_cooperative(meet_as_grid, dim3(static_cast<unsigned>(multiprocessors)), dim3(threads), 0, nullptr, to,
                          100 * rounds, true);  // until the clock has risen
  std::printf("metric,blocks,cluster,stores,p20,p50,p80\n");
  for (const bool dependent : {false, true}) time_launches(dependent, multiprocessors, rounds);
  for (const int blocks : {multiprocessors, 2 * multiprocessors}) {
    for (const bool stores : {false, true}) {
      time_barrier("grid barrier", blocks, 1, stores ? Stores::before : Stores::none, rounds, [=](int many) {
        gpu::launch_cooperative(meet_as_grid, dim3(static_cast<unsigned>(blocks)), dim3(threads), 0, nullptr, to, many,
                                stores);
      });
    }
  }
  for (const int cluster : {2, 4, 8}) {
    time_cluster<Stores::none>(cluster, multiprocessors, rounds, to);
    time_cluster<Stores::before>(cluster, multiprocessors, rounds, to);
    time_cluster<Stores::between>(cluster, multiprocessors, rounds, to);
  }
}

}  // namespace timings
