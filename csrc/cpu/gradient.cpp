// Gradients of states; see gradient.h.
#include "gradient.h"

#include <algorithm>
#include <cstring>

#include "transpose.h"

namespace ncafast::cpu {

Gradient::Gradient(const Engine& engine, bool spreads_early)
    : engine_(engine),
      line_(engine.geometry.padded[2] * engine.inputs.rule.channels),
      edge_(engine.geometry.radius[engine.tables.axis] * engine.tables.slice_cells * engine.inputs.rule.channels),
      memory_(engine.inputs.grid.batch * engine.padded_sample(), false),
      edges_(spreads_early ? engine.inputs.grid.batch * static_cast<int64_t>(engine.bands.size() / 2) * 2 * edge_ : 0,
             false),
      read_(engine.threads) {}

void Gradient::set(const float* from) {
  const int64_t C = engine_.inputs.rule.channels, N = engine_.geometry.cells, line = engine_.geometry.size[2];
  engine_.each_row([&](int64_t sample, int64_t row, int64_t) {
    float* to = data() + sample * engine_.padded_sample() + engine_.tables.padded_row(row) * C;
    transpose(from + sample * C * N + row * line, N, to, C, C, line);
  });
}

void Gradient::add(const float* from) {
  const int64_t C = engine_.inputs.rule.channels, N = engine_.geometry.cells, line = engine_.geometry.size[2];
  engine_.each_row([&](int64_t sample, int64_t row, int64_t) {
    float* to = data() + sample * engine_.padded_sample() + engine_.tables.padded_row(row) * C;
    float* some = engine_.scratch[this_thread()].update;
    for (int64_t x = 0; x < line; x += tile_cells) {
      const int64_t cells = std::min<int64_t>(line - x, tile_cells);
      transpose(from + sample * C * N + row * line + x, N, some, C, C, cells);
      for (int64_t i = 0; i < cells * C; ++i) to[x * C + i] += some[i];
    }
  });
}

void Gradient::get(float* to) const {
  const int64_t C = engine_.inputs.rule.channels, N = engine_.geometry.cells, line = engine_.geometry.size[2];
  engine_.each_row([&](int64_t sample, int64_t row, int64_t) {
    const float* from = data() + sample * engine_.padded_sample() + engine_.tables.padded_row(row) * C;
    transpose(from, C, to + sample * C * N + row * line, N, line, C);
  });
}

float* Gradient::kept(int64_t sample, int64_t band) const {
  return edges_.data() + (sample * static_cast<int64_t>(engine_.bands.size() / 2) + band / 2) * 2 * edge_;
}

void Gradient::keep_edges() {
  if (!edges_.count()) return;
  const int64_t C = engine_.inputs.rule.channels;
  const int32_t line = engine_.geometry.size[2], edge = static_cast<int32_t>(edge_ / C), part = std::min(line, edge);
#pragma omp parallel for num_threads(engine_.threads) schedule(static)
  for (int64_t i = 0; i < engine_.tasks(); ++i) {
    const int64_t per_sample = static_cast<int64_t>(engine_.bands.size()), sample = i / per_sample;
    const Band& band = engine_.bands[i % per_sample];
    if (band.colour == 0) continue;
    float* to = kept(sample, i % per_sample);
    const float* from = data() + sample * engine_.padded_sample();
    for (const int32_t begin : {band.begin, band.end - edge})
      for (int32_t cell = begin; cell < begin + edge; cell += part, to += part * C)
        std::memcpy(to, from + (engine_.tables.padded_row(cell / line) + cell % line) * C, 4 * part * C);
  }
}

const float* Gradient::read(int64_t sample, int64_t number, const Window& window, const Cell* cells, int32_t count) {
  const int64_t C = engine_.inputs.rule.channels;
  const Band& band = engine_.bands[number];
  Floats& to = read_[this_thread()];
  if (to.count() < count * C) to = Floats((band.end - band.begin) * C, false);
  const bool changed = band.colour && edges_.count();
  const int32_t edge = changed ? static_cast<int32_t>(edge_ / C) : 0;
  const float *from = at(sample, window), *first = changed ? kept(sample, number) : nullptr;
  for (int32_t i = 0; i < count; ++i) {
    const Cell cell = cells[i];
    const float* source = from + cell.padded * C;
    if (cell.index < band.begin + edge) source = first + (cell.index - band.begin) * C;
    if (cell.index >= band.end - edge) source = first + edge_ + (cell.index - (band.end - edge)) * C;
    std::memcpy(to.data() + i * C, source, 4 * C);
  }
  return to.data();
}

}  // namespace ncafast::cpu
