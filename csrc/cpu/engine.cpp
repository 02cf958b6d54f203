// One step of the automaton on all samples: tiles of fired cells, alive mask.
#include "engine.h"

#include <algorithm>
#include <cstring>
#include <utility>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "clamp.h"
#include "life.h"
#include "transpose.h"

namespace ncafast::cpu {
namespace {

int64_t moment_bytes(const Rule& rule, const Grid& grid) {
  const int64_t p = perception_size(rule);
  return 4 * sets_of(rule, grid) * (p + p * p);
}

int64_t life_bytes(const Rule& rule, const Grid& grid) {
  if (rule.alive.channel < 0) return 0;
  return grid.batch * ((grid.size[0] * grid.size[1] * grid.size[2] + 7) / 8);
}

int64_t inside_bytes(const Rule& rule, const Grid& grid) {
  if (!has_clamp(rule)) return 0;
  return grid.batch * grid.size[0] * grid.size[1] * bit_bytes(grid.size[2] * rule.channels);
}

// From so many taps a cell on, what the filters give is kept between the passes of a step with measured moments
// instead of computed twice. (AVX-512, Xeon 6-167, one thread, 2026-11-23, ms per training step without and with:
// 7x7 1.47 and 1.27; 7^3 98 and 64; 3^3 25.5 and 25.1, not worth the memory; 3x3 twice 10.9 and 11.4.)
constexpr int64_t taps_worth_keeping = 49;

int32_t most_cells(const std::vector<Band>& bands) {
  int32_t most = 0;
  for (const Band& band : bands) most = std::max(most, band.end - band.begin);
  return most;
}

}  // namespace

int64_t tape_bytes(const Rule& rule, const Grid& grid) {
  return moment_bytes(rule, grid) + round_up(life_bytes(rule, grid), 4) + round_up(inside_bytes(rule, grid), 4);
}

StepTape tape_at(const Rule& rule, const Grid& grid, uint8_t* tape, int64_t step) {
  if (!tape) return {};
  tape += step * tape_bytes(rule, grid);
  const int64_t sets = sets_of(rule, grid);
  float* mean = sets ? reinterpret_cast<float*>(tape) : nullptr;
  uint8_t* bits = tape + moment_bytes(rule, grid);
  uint8_t* life = rule.alive.channel >= 0 ? bits : nullptr;
  uint8_t* inside = has_clamp(rule) ? bits + round_up(life_bytes(rule, grid), 4) : nullptr;
  return {mean, mean ? mean + sets * perception_size(rule) : nullptr, life, inside};
}

Engine::Engine(const Inputs& in, int thread_count)
    : inputs(in),
      kernels(in.bf16 ? *bf16_kernels() : chosen_kernels()),
      threads(thread_count),
      tables(in.grid, in.rule),
      geometry(tables.geometry),
      sets(sets_of(in.rule, in.grid)),
      weights(in.rule, in.parameters, kernels.width, geometry.taps, sets, in.bf16),
      P(perception_size(in.rule)),
      bands(make_bands(tables, in.grid.batch, thread_count)),
      pooled(in, tables, thread_count),
      alive(in.rule.alive.channel >= 0),
      clears(alive && !in.rule.alive.gates_update),
      restore(in.rule.restore_lo < in.rule.restore_hi),
      clamps(has_clamp(in.rule)),
      measures(has_batch_moments(in.rule.norm) || has_sample_moments(in.rule.norm)),
      keeps_seen(measures && !in.rule.dense && in.rule.filters * geometry.taps >= taps_worth_keeping) {
  const Rule& rule = in.rule;
  if (has_stored_moments(rule.norm))
    for (int layer = 0; layer < rule.layers; ++layer) {
      const Layer<const float>& l = in.parameters.hidden[layer];
      std::vector<double> mean(l.running_mean, l.running_mean + rule.hidden[layer]);
      std::vector<double> var(l.running_var, l.running_var + rule.hidden[layer]);
      weights.pack_hidden(layer, fold_of(rule, l, std::move(mean), std::move(var)));
    }
  moved_.resize(round_up(rule.channels, max_width));
  std::fill(moved_.begin() + rule.mutable_lo, moved_.begin() + rule.mutable_hi, 0xFFFFFFFFu);
  touched_ = moved_;
  std::fill(touched_.begin() + rule.restore_lo, touched_.begin() + rule.restore_hi, 0u);
  if (clamps && restore) past_clamp_ = bits_of_channels(geometry, rule.restore_lo, rule.restore_hi);
  shift_.assign(sets, std::vector<float>(round_up(P, max_width) + max_width));
  if (alive) {
    pre_.resize(in.grid.batch * geometry.cells);
    near_.resize(pre_.size());
  }
  make_runs();
  const int64_t most = most_cells(bands), width = kernels.width;
  int64_t widest = rule.dense ? row_stride(rule.filters, width) : 0;
  for (int layer = 0; layer < rule.layers; ++layer)
    widest = std::max({widest, row_stride(rule.hidden[layer], width), row_stride(weights.inputs(layer), width)});
  const bool drops = rule.keep_limit >> 32 == 0;
  int64_t drawn = 0;  // bytes of a cell
  for (int layer = 0; layer < rule.layers; ++layer) drawn += round_up(rule.hidden[layer], 4);
  const int64_t ldy = round_up(P, 24) + width, seen = round_up(rule.filters, width);
  for (int i = 0; i < threads; ++i) {
    Scratch s{};
    if (rule.dense) {
      s.columns = floats(tile_cells * (round_up(geometry.taps * rule.channels, width) + width));
      s.seen = floats(tile_cells * seen);
      s.seen_slope = floats(tile_cells * seen);
    }
    s.perception = floats(tile_cells * ldy);
    if (drops) {
      drawn_.emplace_back(drawn);
      s.drawn = drawn_.back().data();
    }
    for (int layer = 0; layer < rule.layers; ++layer) {
      if (drops) s.kept[layer] = floats(tile_cells * row_stride(rule.hidden[layer], width));
      s.value[layer] = floats(tile_cells * row_stride(rule.hidden[layer], width));
      s.slope[layer] = floats(tile_cells * row_stride(rule.hidden[layer], width));
      if (!has_cell_moments(rule.norm)) continue;
      s.normal[layer] = floats(tile_cells * row_stride(rule.hidden[layer], width));
      s.inverse[layer] = floats(tile_cells);
    }
    if (in.bf16) {
      pairs_.emplace_back(tile_cells * round_up(std::max<int64_t>(widest, rule.channels), 2 * width) / 2);
      s.pairs = pairs_.back().data();
    }
    s.delta[0] = floats(tile_cells * widest);
    s.delta[1] = floats(tile_cells * widest);
    s.update = floats(tile_cells * round_up(rule.channels, width));
    s.update_slope = floats(tile_cells * round_up(rule.channels, width));
    s.grad_perception = floats(tile_cells * ldy);
    fired_.emplace_back(most + 8 * max_width);
    cells_.emplace_back(most);
    s.fired = fired_.back().data();
    s.cells = cells_.back().data();
    scratch.push_back(s);
    windows.emplace_back(tables, most / tables.slice_cells);
  }
}

// The bands of all samples in order, an equal number for each thread.
void Engine::make_runs() {
  for (const std::vector<Share>& own : divide(inputs.grid.batch, static_cast<int64_t>(bands.size()), threads)) {
    std::vector<Run>& runs = runs_.emplace_back();
    for (const Share& share : own) runs.push_back({share.sample, share.first, share.last, {}, {}});
  }
}

int this_thread() {
#ifdef _OPENMP
  return omp_get_thread_num();
#else
  return 0;
#endif
}

float* Engine::floats(int64_t count) {
  memory_.emplace_back(count);
  return memory_.back().data();
}

Job Engine::job(int64_t t, int64_t sample, const Window& window) const {
  Job job{};
  job.geometry = &geometry;
  job.x = window.data();
  job.packed = &weights.packed[set_of(sample)];
  job.scale = inputs.rule.update_scale;
  job.dropout = {inputs.rule.keep_limit, *inputs.fire.seed, static_cast<uint32_t>(inputs.plan.first_sample + sample),
                 static_cast<uint32_t>(inputs.plan.first_step + t), inputs.rule.keep_scale};
  job.moved = moved_.data();
  job.touched = touched_.data();
  const Extra<const float>& extra = inputs.extra;
  if (extra.values) job.extra = extra.values + t * extra.step_stride + sample * extra.sample_stride;
  job.pooled = pooled.at(sample);
  job.extra_channel = extra.channel_stride;
  for (int a = 0; a < 3; ++a) job.extra_axis[a] = extra.axis_stride[a];
  return job;
}

void Engine::make_room_for_seen() {
  if (keeps_seen && !seen_.count()) seen_ = Floats(size() * inputs.rule.filters, false);
}

void Engine::keep_seen(Job& job, int64_t sample, bool known) const {
  if (!keeps_seen) return;
  job.seen = seen_.data() + sample * geometry.cells * inputs.rule.filters * inputs.rule.channels;
  job.seen_known = known;
}

int32_t Engine::list_cells(int64_t t, int64_t sample, const Band& band, const uint8_t* wanted, const Window& window,
                           const Scratch& s) const {
  if (wanted && !std::memchr(wanted + band.begin, 1, band.end - band.begin)) return 0;
  const Fire& fire = inputs.fire;
  const uint8_t* fired = nullptr;
  if (fire.mask) {
    fired = fire.mask + t * fire.step_stride + sample * fire.sample_stride + band.begin;
  } else if (inputs.rule.fire_limit >> 32 == 0) {
    const int64_t block = band.begin / 4;
    kernels.draw(s.fired, block, (band.end + 3) / 4 - block, static_cast<uint32_t>(inputs.plan.first_sample + sample),
                 static_cast<uint32_t>(inputs.plan.first_step + t), *fire.seed, inputs.rule.fire_limit);
    fired = s.fired + band.begin % 4;
  }
  if (!fired && !wanted) return list_all(band, window, s);
  const int32_t line = geometry.size[2];
  int32_t count = 0;
  for (int32_t cell = band.begin, row = band.begin / line; cell < band.end; ++row) {
    const int32_t shift = static_cast<int32_t>(tables.padded_row(row) - window.origin()) - row * line;
    for (const int32_t end = std::min((row + 1) * line, band.end); cell < end; ++cell) {
      s.cells[count] = {cell, cell + shift};
      count += (!fired || fired[cell - band.begin]) && (!wanted || wanted[cell]);
    }
  }
  return count;
}

int32_t Engine::list_all(const Band& band, const Window& window, const Scratch& s) const {
  const int32_t line = geometry.size[2];
  for (int32_t cell = band.begin, row = band.begin / line; cell < band.end; ++row) {
    const int32_t shift = static_cast<int32_t>(tables.padded_row(row) - window.origin()) - row * line;
    for (const int32_t end = std::min((row + 1) * line, band.end); cell < end; ++cell)
      s.cells[cell - band.begin] = {cell, cell + shift};
  }
  return band.end - band.begin;
}

void Engine::step(int64_t t, const float* x, float* next, const StepTape& tape) {
  pooled.measure(x);
  if (measures) measure(x, t, tape);
  run(t, x, next, tape, measures);
}

void Engine::step_again(int64_t t, const float* x, float* next, const StepTape& tape) {
  pooled.measure(x);
  run(t, x, next, tape, false);
}

void Engine::run(int64_t t, const float* x, float* next, const StepTape& tape, bool measured) {
  if (measures) normalise(tape);
  const bool skip_dead = alive && inputs.rule.alive.pre, settles = clears || restore || clamps;
  if (alive) living(x, pre_);
  const bool in_place = x == next;
  const int64_t C = inputs.rule.channels, set_back = inputs.rule.restore_hi - inputs.rule.restore_lo;
  const uint8_t* moves = skip_dead ? (clears ? near_.data() : pre_.data()) : nullptr;
  if (alive && !clears) write_life(pre_, tape);
  if (skip_dead && clears) {
#pragma omp parallel num_threads(threads)
    {
      std::vector<uint8_t> spare;
#pragma omp for schedule(static)
      for (int64_t b = 0; b < inputs.grid.batch; ++b)
        // A cell that is dead before the step still counts for its neighbours' life after it.
        dilate(geometry, inputs.rule.alive, pre_.data() + b * geometry.cells, near_.data() + b * geometry.cells, spare);
    }
  }
  if (in_place) keep_edges(x);
  if (in_place && restore && !restored_.count())
    restored_ = Floats(inputs.grid.batch * geometry.cells * set_back, false);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int i = 0; i < threads; ++i) {
    const Scratch& s = scratch[i];
    Window& window = windows[i];
    for (const Run& mine : runs_[i]) {
      const int64_t sample = mine.sample, r = geometry.radius[tables.axis];
      const float* from = x + sample * sample_size();
      const Edges edges{bands[mine.first].begin / tables.slice_cells, bands[mine.last - 1].end / tables.slice_cells,
                        mine.before.data(), mine.after.data()};
      window.forget();
      for (int64_t b = mine.first; b < mine.last; ++b) {
        const Band& band = bands[b];
        window.show(from, band, in_place && r ? &edges : nullptr);
        Job here = job(t, sample, window);
        here.out = next + sample * sample_size();
        if (measured) keep_seen(here, sample, true);
        if (!in_place)
          std::memcpy(here.out + band.begin * C, from + band.begin * C, 4 * (band.end - band.begin) * C);
        else if (restore)
          for (int64_t cell = band.begin; cell < band.end; ++cell)
            std::memcpy(restored_.data() + (sample * geometry.cells + cell) * set_back,
                        from + cell * C + inputs.rule.restore_lo, 4 * set_back);
        const uint8_t* wanted = moves ? moves + sample * geometry.cells : nullptr;
        kernels.forward(here, s, s.cells, list_cells(t, sample, band, wanted, window, s));
      }
    }
  }
  if (settles && in_place) settle(next, tape, restored_.data(), set_back);
  if (settles && !in_place) settle(next, tape, x + inputs.rule.restore_lo, C);
}

// What a step in place will no longer find in the state when a run's first and last band ask for it.
void Engine::keep_edges(const float* x) {
  const int64_t slice = tables.slice_cells * inputs.rule.channels, r = geometry.radius[tables.axis];
  if (!r) return;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int i = 0; i < threads; ++i)
    for (Run& run : runs_[i]) {
      const float* from = x + run.sample * sample_size();
      if (!run.before.count()) run.before = Floats(r * slice, false), run.after = Floats(r * slice, false);
      for (int64_t n = 0; n < r; ++n) {
        const int32_t before = tables.shown(tables.axis, bands[run.first].begin / tables.slice_cells + n);
        const int32_t after = tables.shown(tables.axis, bands[run.last - 1].end / tables.slice_cells + r + n);
        if (before >= 0) std::memcpy(run.before.data() + n * slice, from + before * slice, 4 * slice);
        if (after >= 0) std::memcpy(run.after.data() + n * slice, from + after * slice, 4 * slice);
      }
    }
}

// plane = whether the alive channel's largest value in each cell's window is above the threshold.
void Engine::living(const float* x, std::vector<uint8_t>& plane) const {
  const Alive& rule = inputs.rule.alive;
  const int64_t C = inputs.rule.channels, N = geometry.cells;
#pragma omp parallel num_threads(threads)
  {
    std::vector<uint8_t> above(N), spare;
#pragma omp for schedule(static)
    for (int64_t b = 0; b < inputs.grid.batch; ++b) {
      const float* sample = x + b * sample_size() + rule.channel;
      for (int64_t n = 0; n < N; ++n) {
        const float value = sample[n * C];
        above[n] = value > rule.threshold ? 1 : value != value ? 2 : 0;
      }
      uint8_t* mask = plane.data() + b * N;
      dilate(geometry, rule, above.data(), mask, spare);
      for (int64_t n = 0; n < N; ++n) mask[n] = mask[n] == 1;  // the largest of some values and a NaN is a NaN
    }
  }
}

void Engine::write_life(const std::vector<uint8_t>& life, const StepTape& tape) const {
  const int64_t N = geometry.cells;
  if (!tape.life) return;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t b = 0; b < inputs.grid.batch; ++b) pack_bits(life.data() + b * N, N, tape.life + b * ((N + 7) / 8));
}

// The alive mask, the clamp and the restored channels, after all cells have moved. What these were stands at
// `restored`, `stride` floats from cell to cell.
void Engine::settle(float* next, const StepTape& tape, const float* restored, int64_t stride) {
  const Rule& rule = inputs.rule;
  const int64_t C = rule.channels, N = geometry.cells, cells = inputs.grid.batch * N;
  if (clears) {
    life_.assign(cells, 1);
    if (rule.alive.post) living(next, life_);
    for (int64_t i = 0; rule.alive.pre && i < cells; ++i) life_[i] &= pre_[i];
    write_life(life_, tape);
  }
  const int64_t line = geometry.size[2], bytes = bit_bytes(line * C);
  each_row([&](int64_t sample, int64_t row, int64_t cell) {
    for (int64_t i = 0; clears && i < line; ++i) {
      const int64_t begin = i;
      while (i < line && !life_[cell + i]) ++i;
      float* dead = next + (cell + begin) * C;
      for (int64_t j = 0; j < (i - begin) * C; ++j) dead[j] *= 0.0f;
    }
    if (clamps) {
      uint8_t* inside = tape.inside ? tape.inside + (sample * tables.rows() + row) * bytes : nullptr;
      kernels.clamp(next + cell * C, line * C, rule.clamp, inside);
      for (size_t i = 0; inside && i < past_clamp_.size(); ++i) inside[i] |= past_clamp_[i];
    }
    for (int64_t i = cell; restore && i < cell + line; ++i)
      std::copy_n(restored + i * stride, rule.restore_hi - rule.restore_lo, next + i * C + rule.restore_lo);
  });
}

void Engine::put_channels_last(const float* from, float* to) const {
  const int64_t C = inputs.rule.channels, line = geometry.size[2], N = geometry.cells;
  each_row([&](int64_t sample, int64_t row, int64_t cell) {
    transpose(from + sample * C * N + row * line, N, to + cell * C, C, C, line);
  });
}

void Engine::put_channels_first(const float* from, float* to) const {
  const int64_t C = inputs.rule.channels, line = geometry.size[2], N = geometry.cells;
  each_row([&](int64_t sample, int64_t row, int64_t cell) {
    transpose(from + cell * C, C, to + sample * C * N + row * line, N, line, C);
  });
}

}  // namespace ncafast::cpu
