// Sums over the cells of a part of a grid, from which whoever has all parts makes the moments of the perception.
#include <algorithm>

#include "engine.h"

namespace ncafast::cpu {
namespace {

// The band's cells that lie in the box; returns their number.
int32_t list_inside(const Engine& engine, const Band& band, const Box& box, const Window& window, const Scratch& s) {
  const int32_t all = engine.list_all(band, window, s), *size = engine.geometry.size;
  int32_t count = 0;
  for (int32_t i = 0; i < all; ++i) {
    const int32_t cell = s.cells[i].index, at[3] = {cell / size[2] / size[1], cell / size[2] % size[1], cell % size[2]};
    bool inside = true;
    for (int a = 0; a < 3; ++a) inside = inside && box.start[a] <= at[a] && at[a] < box.stop[a];
    s.cells[count] = s.cells[i];
    count += inside;
  }
  return count;
}

}  // namespace

void sums_of_part(const Inputs& in, int threads, const Box& core, int64_t sets, const float* shift, double* first,
                  double* second) {
  Engine engine(in, threads);
  const int64_t P = engine.P, Pp = round_up(P, engine.kernels.width), size = Pp + round_up(P, 24) * Pp;
  const int64_t per_sample = static_cast<int64_t>(engine.bands.size());
  Floats x(engine.size(), false), about(sets * Pp);
  engine.put_channels_last(static_cast<const float*>(in.x), x.data());
  for (int64_t set = 0; set < sets; ++set) std::copy_n(shift + set * P, P, about.data() + set * Pp);
  std::vector<std::vector<double>> totals(threads * sets);
#pragma omp parallel num_threads(threads)
  {
    const int me = this_thread();
    Floats sums(size);
    engine.windows[me].forget();
#pragma omp for schedule(static)
    for (int64_t i = 0; i < engine.tasks(); ++i) {
      const int64_t sample = i / per_sample, set = sets > 1 ? sample : 0;
      const Band& band = engine.bands[i % per_sample];
      Window& window = engine.windows[me];
      window.show(x.data() + sample * engine.sample_size(), band);
      const Job here = engine.job(0, sample, window);
      sums.clear();
      const int32_t cells = list_inside(engine, band, core, window, engine.scratch[me]);
      engine.kernels.moments(here, engine.scratch[me], about.data() + set * Pp, sums.data(), sums.data() + Pp,
                             engine.scratch[me].cells, cells);
      std::vector<double>& total = totals[me * sets + set];
      total.resize(size);
      for (int64_t j = 0; j < size; ++j) total[j] += sums[j];
    }
  }
  std::fill_n(first, sets * P, 0.0);
  std::fill_n(second, sets * P * P, 0.0);
  for (int64_t set = 0; set < sets; ++set)
    for (int thread = 0; thread < threads; ++thread) {
      const std::vector<double>& part = totals[thread * sets + set];
      if (part.empty()) continue;
      for (int64_t i = 0; i < P; ++i) first[set * P + i] += part[i];
      for (int64_t i = 0; i < P; ++i)  // the kernel leaves out what follows by symmetry
        for (int64_t j = i; j < P; ++j) second[(set * P + i) * P + j] += part[Pp + i * Pp + j];
    }
  for (int64_t set = 0; set < sets; ++set)
    for (int64_t i = 0; i < P; ++i)
      for (int64_t j = 0; j < i; ++j) second[(set * P + i) * P + j] = second[(set * P + j) * P + i];
}

}  // namespace ncafast::cpu
