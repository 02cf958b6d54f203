// The engine's pass over all cells for norms with measured moments: mean and central second moment of the perception.
#include <algorithm>

#include "engine.h"

namespace ncafast::cpu {

// Sums are taken about the last step's mean; where the mean of a set has moved much further than its cells differ, that
// costs digits, and they are taken again about the new one.
void Engine::measure(const float* x, int64_t t, const StepTape& tape) {
  make_room_for_seen();
  if (t == 0) start_shifts(x);
  std::vector<uint8_t> wanted(sets, 1);
  if (measure_about_shifts(x, t, tape, wanted)) measure_about_shifts(x, t, tape, wanted);
}

// The mean of a set's first cells.
void Engine::start_shifts(const float* x) {
  const int64_t Pp = round_up(P, kernels.width), rows = round_up(P, 24);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t set = 0; set < sets; ++set) {
    const Scratch& s = scratch[this_thread()];
    Window& window = windows[this_thread()];
    Floats sums(Pp + rows * Pp);
    window.forget();
    window.show(x + set * sample_size(), bands[0]);  // set n starts with sample n
    const Job first = job(0, set, window);
    const int32_t cells = std::min<int32_t>(list_all(bands[0], window, s), tile_cells);
    kernels.moments(first, s, shift_[set].data(), sums.data(), sums.data() + Pp, s.cells, cells);
    for (int32_t i = 0; i < P; ++i) shift_[set][i] = sums[i] / cells;
  }
}

// Of the sets that are wanted: sums in float32 per band, added up in float64. Moves their shifts to the means; wanted
// are afterwards those that were too far from it. Returns whether there are any.
bool Engine::measure_about_shifts(const float* x, int64_t t, const StepTape& tape, std::vector<uint8_t>& wanted) {
  const int64_t Pp = round_up(P, kernels.width), rows = round_up(P, 24), size = Pp + rows * Pp;
  std::vector<std::vector<double>> totals(threads * sets);  // those of samples that a thread has no band of stay empty
#pragma omp parallel num_threads(threads)
  {
    const int me = this_thread();
    Floats sums(size);
    windows[me].forget();
#pragma omp for schedule(static)
    for (int64_t i = 0; i < tasks(); ++i) {
      const int64_t sample = i / static_cast<int64_t>(bands.size()), set = set_of(sample);
      if (!wanted[set]) continue;
      const Band& band = bands[i % bands.size()];
      windows[me].show(x + sample * sample_size(), band);
      Job here = job(t, sample, windows[me]);
      keep_seen(here, sample, false);
      sums.clear();
      const int32_t cells = list_all(band, windows[me], scratch[me]);
      kernels.moments(here, scratch[me], shift_[set].data(), sums.data(), sums.data() + Pp, scratch[me].cells, cells);
      std::vector<double>& total = totals[me * sets + set];
      total.resize(size);
      for (int64_t j = 0; j < size; ++j) total[j] += sums[j];
    }
  }
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t set = 0; set < sets; ++set) {
    if (!wanted[set]) continue;
    std::vector<double> all(size);
    for (int i = 0; i < threads; ++i) {
      const std::vector<double>& part = totals[i * sets + set];
      for (size_t j = 0; j < part.size(); ++j) all[j] += part[j];
    }
    wanted[set] = take_moments(set, all, tape);
  }
  return std::count(wanted.begin(), wanted.end(), 1) > 0;
}

// From the sums about the shift of a set. Returns whether that was too far from the mean.
bool Engine::take_moments(int64_t set, const std::vector<double>& sums, const StepTape& tape) {
  const int64_t Pp = round_up(P, kernels.width);
  const double N = static_cast<double>(cells_of_set());
  const double *first = sums.data(), *second = first + Pp;
  float *mean = tape.mean + set * P, *central = tape.second + set * P * P;
  double moved = 0.0, spread = 0.0;
  for (int32_t i = 0; i < P; ++i) {
    for (int32_t j = i; j < P; ++j) {
      const double moment = second[i * Pp + j] / N - first[i] / N * (first[j] / N);
      central[i * P + j] = central[j * P + i] = static_cast<float>(moment);
    }
    moved += first[i] / N * (first[i] / N);
    spread += central[i * P + i];
    shift_[set][i] = mean[i] = static_cast<float>(shift_[set][i] + first[i] / N);
  }
  return !(moved <= 16.0 * spread);
}

Moments Engine::moments_at(const StepTape& tape, int64_t set) const {
  return {tape.mean + set * P, tape.second + set * P * P};
}

void Engine::normalise(const StepTape& tape) {
  folds.resize(sets);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t set = 0; set < sets; ++set) {
    const Moments here = moments_at(tape, set);
    folds[set] = fold_of_moments(inputs.rule, inputs.parameters.hidden[0], kernels, here);
    weights.pack_first(folds[set], here.mean, set);
  }
}

}  // namespace ncafast::cpu
