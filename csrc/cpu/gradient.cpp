// Gradients of states; see gradient.h.
#include "gradient.h"

#include <algorithm>
#include <cstring>

#include "transpose.h"

namespace ncafast::cpu {

// About as many bands for each thread, in runs of two or more, or of a whole sample.
std::vector<std::vector<BackwardRun>> backward_runs(const Engine& engine) {
  const int64_t per_sample = static_cast<int64_t>(engine.bands.size()), pairs = std::max<int64_t>(1, per_sample / 2);
  const auto place = [&](int64_t pair) { return pair * per_sample / pairs; };
  std::vector<std::vector<BackwardRun>> runs;
  bool splits = false;
  for (const std::vector<Share>& own : divide(engine.inputs.grid.batch, pairs, engine.threads)) {
    std::vector<BackwardRun>& here = runs.emplace_back();
    for (const Share& share : own) {
      here.push_back({share.sample, place(share.first), place(share.last), false, {}});
      splits |= share.last < pairs;
    }
  }
  // One band of each thread, so that none has more to do than the others.
  for (std::vector<BackwardRun>& own : runs)
    if (splits && !own.empty()) own.back().last_waits = true;
  return runs;
}

Gradient::Gradient(const Engine& engine, bool spreads_early)
    : engine_(engine),
      line_(engine.geometry.padded[2] * engine.inputs.rule.channels),
      edge_(spreads_early ? static_cast<int32_t>(engine.geometry.radius[engine.tables.axis] * engine.tables.slice_cells)
                          : 0),
      memory_(engine.inputs.grid.batch * engine.padded_sample(), false),
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

// Copies dL/dx of the `edge_` cells from `begin` on.
void Gradient::keep(int64_t sample, int32_t begin, Floats& to) const {
  const int64_t C = engine_.inputs.rule.channels;
  const int32_t line = engine_.geometry.size[2], part = std::min(line, edge_);
  if (!to.count()) to = Floats(edge_ * C, false);
  const float* from = data() + sample * engine_.padded_sample();
  for (int32_t i = 0; i < edge_; i += part)
    std::memcpy(to.data() + i * C, from + (engine_.tables.padded_row((begin + i) / line) + (begin + i) % line) * C,
                4 * part * C);
}

void Gradient::keep_end(BackwardRun& run) const {
  if (edge_ && run.last_waits) keep(run.sample, engine_.bands[run.last - 1].end - edge_, run.changed[1]);
}

const float* Gradient::read(BackwardRun& run, int64_t number, const Window& window, const Cell* cells, int32_t count) {
  const int64_t C = engine_.inputs.rule.channels;
  const Band& band = engine_.bands[number];
  Floats& to = read_[this_thread()];
  if (to.count() < count * C) to = Floats((band.end - band.begin) * C, false);
  const int32_t first = number > run.first ? band.begin + edge_ : band.begin;
  const int32_t last = number + 1 == run.last && run.last_waits ? band.end - edge_ : band.end;
  const float* from = at(run.sample, window);
  for (int32_t i = 0; i < count; ++i) {
    const Cell cell = cells[i];
    const float* source = from + cell.padded * C;
    if (cell.index < first) source = run.changed[0].data() + (cell.index - band.begin) * C;
    if (cell.index >= last) source = run.changed[1].data() + (cell.index - last) * C;
    std::memcpy(to.data() + i * C, source, 4 * C);
  }
  if (edge_ && number + 1 < run.last) keep(run.sample, band.end, run.changed[0]);
  return to.data();
}

}  // namespace ncafast::cpu
