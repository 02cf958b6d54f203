// The whole rollout backward, step by step in reverse: each step is recomputed from its state on the fired cells only.
//
// A norm with measured moments needs sums over all cells before the gradient of the perception is known (norm.cpp).
// What comes through the fired cells is spread while the sums are taken, the rest by a pass over all cells that does
// not see the MLP. Where filters are dear, what comes through the fired cells waits for that pass too.
#include <algorithm>
#include <cstring>
#include <utility>

#include "engine.h"
#include "gradient.h"
#include "life.h"
#include "stop.h"

namespace ncafast::cpu {
namespace {

class Backward {
 public:
  Backward(const Inputs& in, int threads, uint8_t* tape, const Gradients& gradients)
      : in_(in),
        engine_(in, threads),
        tape_(tape),
        gradients_(gradients),
        K_(engine_.kernels),
        runs_(backward_runs(engine_)),
        g_(engine_, !engine_.keeps_seen),
        recalls_(engine_.keeps_seen && in.rule.filters == 1) {
    for (const std::vector<BackwardRun>& own : runs_) waits_ |= !own.empty() && own.back().last_waits;
    for (int i = 0; i < threads; ++i)
      sums_.push_back(std::make_unique<SumMemory>(in.rule, K_.width, engine_.geometry.taps));
    const int64_t H = in.rule.hidden[0];
    first_layer_.weight.resize(H * engine_.P);
    for (auto* sum : {&first_layer_.bias, &first_layer_.norm_weight, &first_layer_.norm_bias}) sum->resize(H);
    first_count_ = engine_.P * round_up(H, K_.width);
    first_sums_.resize(threads * engine_.sets);
    if (recalls_) engine_.make_room_for_seen();
    if (engine_.keeps_seen) {
      given_.resize(engine_.tasks());
      given_cells_.resize(threads);
    }
    if (engine_.alive) life_.resize(in.grid.batch * engine_.geometry.cells);
  }

  void run(const float* history, const float* grad_out, const float* grad_history) {
    const int64_t size = engine_.size();
    if (grad_out)
      g_.set(grad_out);
    else
      g_.clear();
    // The first state stands where its gradient will.
    float* const grad_x = static_cast<float*>(gradients_.x);
    Floats own(grad_x ? 0 : size, false);
    float* const first = grad_x ? grad_x : own.data();
    use_large_pages(first, 4 * size);
    const Plan& plan = in_.plan;
    if (plan.steps) engine_.put_channels_last(static_cast<const float*>(in_.x), first);
    const int64_t every = plan.every ? plan.every : std::max<int64_t>(plan.steps, 1);
    std::vector<Floats> segment;  // the states of a stretch after its first
    for (int64_t i = 1; i < std::min(every, plan.steps); ++i) segment.emplace_back(size, false);
    for (int64_t start = (plan.steps - 1) / every * every; start >= 0 && plan.steps; start -= every) {
      const int64_t end = std::min(start + every, plan.steps);
      const auto state = [&](int64_t t) -> float* { return segment[t - start - 1].data(); };
      const float* x = start ? history + (start / every - 1) * size : first;
      for (int64_t t = start; t + 1 < end; ++t) {
        may_stop();
        engine_.step_again(t, t == start ? x : state(t), state(t + 1), tape(t));
      }
      for (int64_t t = end - 1; t >= start; --t) {
        may_stop();
        const int64_t number = t + 1;
        if (grad_history && plan.every && number % plan.every == 0 && number / plan.every <= plan.kept)
          g_.add(grad_history + (number / plan.every - 1) * size);
        step(t, t == start ? x : state(t));
      }
    }
    segment.clear();
    if (grad_x) g_.get(grad_x);
    finish();
  }

 private:
  StepTape tape(int64_t t) const { return tape_at(in_.rule, in_.grid, tape_, t); }

  void step(int64_t t, const float* x) {
    if (engine_.measures) engine_.normalise(tape(t));
    engine_.pooled.measure(x);
    begin(t);
#pragma omp parallel for num_threads(engine_.threads) schedule(static) if (waits_)
    for (int i = 0; i < engine_.threads; ++i)
      for (BackwardRun& run : runs_[i]) g_.keep_end(run);
    over_bands(t, x, [&](Job& job, const Scratch& s, const Sums& sums, BackwardRun& run, int64_t band, Window& window) {
      const int64_t sample = run.sample;
      if (recalls_) look(job, s, sample, band, window);
      const int32_t count = list_moved(t, sample, band, window, s);
      job.grad = g_.read(run, band, window, s.cells, count);
      if (engine_.keeps_seen) job.given = room_for(sample, band, count);
      K_.backward(job, s, sums, s.cells, count);
      if (engine_.measures) keep_first(sums, engine_.set_of(sample));
      return count;
    });
    if (engine_.measures) correct(t, x);
    engine_.pooled.spread(x, g_.data());
    g_.fold_border();
  }

  // All cells of a band, once for both passes over them.
  void look(Job& job, const Scratch& s, int64_t sample, int64_t band, const Window& window) const {
    engine_.keep_seen(job, sample, false);
    K_.see(job, s, s.cells, engine_.list_all(engine_.bands[band], window, s));
    job.seen_known = true;
  }

  // The cells of a band that fire and whose update counts.
  int32_t list_moved(int64_t t, int64_t sample, int64_t band, const Window& window, const Scratch& s) const {
    const uint8_t* wanted = engine_.alive ? life_.data() + sample * engine_.geometry.cells : nullptr;
    return engine_.list_cells(t, sample, engine_.bands[band], wanted, window, s);
  }

  // [cells, P]; what was there is gone. A little more than it takes, since the next step has about as many cells.
  float* room_for(int64_t sample, int64_t band, int64_t cells) {
    Floats& room = given_[sample * static_cast<int64_t>(engine_.bands.size()) + band];
    if (room.count() < cells * engine_.P) room = Floats((cells + cells / 32) * engine_.P, false);
    return room.data();
  }

  // The residual's share of dL/dx_t is what of g = dL/dx_(t+1) passes clamp and alive mask; restored channels have a
  // way of their own past everything. The border starts at zero.
  void begin(int64_t t) {
    const int64_t C = in_.rule.channels, N = engine_.geometry.cells, line = engine_.geometry.padded[2];
    const int32_t *r = engine_.geometry.radius, *n = engine_.geometry.padded, *size = engine_.geometry.size;
    if (engine_.alive)
      for (int64_t b = 0; b < in_.grid.batch; ++b)
        unpack_bits(tape(t).life + b * ((N + 7) / 8), N, life_.data() + b * N);
    const StepTape here = tape(t);
    const int64_t lines = in_.grid.batch * n[0] * n[1];
#pragma omp parallel for num_threads(engine_.threads) schedule(static)
    for (int64_t i = 0; i < lines; ++i) {
      const int64_t sample = i / (n[0] * n[1]), z = i / n[1] % n[0] - r[0], y = i % n[1] - r[1];
      float* to = g_.row(i);
      if (z < 0 || z >= size[0] || y < 0 || y >= size[1]) {
        std::memset(to, 0, 4 * line * C);
        continue;
      }
      std::memset(to, 0, 4 * r[2] * C);
      std::memset(to + (r[2] + size[2]) * C, 0, 4 * r[2] * C);
      to += r[2] * C;
      const int64_t row = sample * engine_.tables.rows() + z * size[1] + y;
      if (engine_.clamps) K_.gate(to, size[2] * C, here.inside + row * bit_bytes(size[2] * C));
      const uint8_t* life = engine_.clears ? life_.data() + row * size[2] : nullptr;
      for (int64_t x = 0; life && x < size[2]; ++x)
        if (!life[x])
          for (int64_t c = 0; c < C; ++c)
            if (c < in_.rule.restore_lo || c >= in_.rule.restore_hi) to[x * C + c] = 0.0f;
    }
  }

  // Runs `work`, which returns how many cells it saw, on every band, those that wait last, so that no two threads reach
  // the same cell's gradient.
  template <class Work>
  void over_bands(int64_t t, const float* x, const Work& work) {
    for (const bool waited : {false, true}) {
      if (waited && !waits_) break;
#pragma omp parallel for num_threads(engine_.threads) schedule(static)
      for (int i = 0; i < engine_.threads; ++i) {
        engine_.windows[this_thread()].forget();
        for (BackwardRun& run : runs_[i]) {
          const int64_t early = run.last - run.last_waits;
          for (int64_t band = waited ? early : run.first; band < (waited ? run.last : early); ++band)
            at_band(t, x, run, band, work);
        }
      }
    }
  }

  template <class Work>
  void at_band(int64_t t, const float* x, BackwardRun& run, int64_t band, const Work& work) {
    const int me = this_thread();
    const int64_t sample = run.sample;
    Window& window = engine_.windows[me];
    window.show(x + sample * engine_.sample_size(), engine_.bands[band]);
    Job job = engine_.job(t, sample, window);
    job.grad_x = g_.at(sample, window);
    job.wants_taps = gradients_.parameters.filters != nullptr;
    const Extra<float>& extra = gradients_.extra;
    if (extra.values) job.grad_extra = extra.values + t * extra.step_stride + sample * extra.sample_stride;
    job.grad_pooled = engine_.pooled.band(me);
    SumMemory& memory = *sums_[me];
    memory.added(work(job, engine_.scratch[me], memory.sums, run, band, window));
    engine_.pooled.keep(me, sample);
  }

  // Measured norms: this step's share of the gradients of norm and first layer, and dy's part on every cell.
  void correct(int64_t t, const float* x) {
    const StepTape here = tape(t);
    std::vector<NormBack> backs(engine_.sets);
#pragma omp parallel for num_threads(engine_.threads) schedule(static)
    for (int64_t set = 0; set < engine_.sets; ++set) {
      const std::vector<double> sums = take_first(set);
      backs[set] = norm_back(in_.rule, in_.parameters.hidden[0], K_, engine_.moments_at(here, set), engine_.folds[set],
                             engine_.cells_of_set(), sums.data(), sums.data() + first_count_);
    }
    for (const NormBack& back : backs) {
      add(back.weight, first_layer_.weight);
      add(back.bias, first_layer_.bias);
      add(back.norm_weight, first_layer_.norm_weight);
      add(back.norm_bias, first_layer_.norm_bias);
    }
    over_bands(t, x, [&](Job& job, const Scratch& s, const Sums& sums, BackwardRun& run, int64_t band, Window& window) {
      const int64_t sample = run.sample;
      const NormBack& back = backs[engine_.set_of(sample)];
      if (recalls_) engine_.keep_seen(job, sample, true);
      if (engine_.keeps_seen) {
        std::vector<Cell>& moved = given_cells_[this_thread()];
        job.given_count = list_moved(t, sample, band, window, s);
        moved.assign(s.cells, s.cells + job.given_count);
        job.given_cells = moved.data();
        job.given = room_for(sample, band, 0);
      }
      const int32_t count = engine_.list_all(engine_.bands[band], window, s);
      K_.affine(job, s, sums, back.matrix.data(), back.offset.data(), s.cells, count);
      return count;
    });
  }

  // Moves what a thread's band has added to the first layer's gradients to the sums of its set.
  void keep_first(const Sums& sums, int64_t set) {
    std::vector<double>& to = first_sums_[this_thread() * engine_.sets + set];
    const int64_t H = in_.rule.hidden[0];
    to.resize(first_count_ + H);
    SumMemory::move(sums.hidden[0], first_count_, to.data());
    SumMemory::move(sums.hidden_bias[0], H, to.data() + first_count_);
  }

  // [P, Hp] and [H]: the sums of a set over the threads, in their order, which start anew.
  std::vector<double> take_first(int64_t set) {
    std::vector<double> all(first_count_ + in_.rule.hidden[0]);
    for (int i = 0; i < engine_.threads; ++i) {
      std::vector<double>& part = first_sums_[i * engine_.sets + set];
      add(part, all);
      part.clear();
    }
    return all;
  }

  static void add(const std::vector<double>& from, std::vector<double>& to) {
    for (size_t i = 0; i < from.size(); ++i) to[i] += from[i];
  }

  // A packed sum over the threads, in their order.
  template <class Member>
  double total(Member member, int64_t place) const {
    double sum = 0.0;
    for (const auto& memory : sums_) sum += memory->total(member(memory->sums))[place];
    return sum;
  }

  // From the packed layouts to the parameters' own.
  void finish() {
    for (const auto& memory : sums_) memory->flush();
    finish_filters();
    for (int layer = 0; layer < in_.rule.layers; ++layer) finish_hidden(layer);
    const Rule& rule = in_.rule;
    const int64_t H = rule.hidden[rule.layers - 1], Hp = round_up(H, K_.width);
    const auto weight = [](const Sums& s) { return s.update; };
    const auto bias = [](const Sums& s) { return s.update_bias; };
    for (int64_t m = 0; m < rule.mutable_hi - rule.mutable_lo; ++m) {
      const int64_t channel = rule.mutable_lo + m;
      if (gradients_.parameters.update_bias)
        gradients_.parameters.update_bias[m] = static_cast<float>(total(bias, channel));
      if (gradients_.parameters.update_weight)
        for (int64_t h = 0; h < H; ++h)
          gradients_.parameters.update_weight[m * H + h] = static_cast<float>(total(weight, channel * Hp + h));
    }
  }

  void finish_filters() {
    const Parameters<float>& to = gradients_.parameters;
    const int64_t C = in_.rule.channels, F = in_.rule.filters, taps = engine_.geometry.taps;
    const int64_t Cp = round_up(C, K_.width), outputs = round_up(F, K_.width);
    const bool dense = in_.rule.dense;
    const auto weight = [dense](const Sums& s) { return dense ? s.conv : s.taps; };
    const auto bias = [dense](const Sums& s) { return dense ? s.conv_bias : s.tap_bias; };
    for (int64_t f = 0; f < F; ++f) {
      if (to.filter_bias && dense) to.filter_bias[f] = static_cast<float>(total(bias, f));
      for (int64_t c = 0; c < C; ++c) {
        // Such a norm takes away what is the same in every cell, so that such a bias has no gradient but rounding.
        if (to.filter_bias && !dense)
          put(to.filter_bias, f * C + c, takes_shifts_away() ? 0.0 : total(bias, f * Cp + c));
        for (int64_t t = 0; to.filters && t < taps; ++t) {
          const int64_t place = dense ? (t * C + c) * outputs + f : (t * F + f) * Cp + c;
          to.filters[(f * C + c) * taps + t] = static_cast<float>(total(weight, place));
        }
      }
    }
  }

  // Whether a measured norm takes the mean of each hidden unit by itself.
  bool takes_shifts_away() const { return engine_.measures && units_together(in_.rule) == 1; }

  void finish_measured() {
    const Layer<float>& to = gradients_.parameters.hidden[0];
    for (int64_t h = 0; h < in_.rule.hidden[0]; ++h) {
      put(to.norm_weight, h, first_layer_.norm_weight[h]);
      put(to.norm_bias, h, first_layer_.norm_bias[h]);
      put(to.bias, h, takes_shifts_away() ? 0.0 : first_layer_.bias[h]);
      for (int64_t i = h * engine_.P; i < (h + 1) * engine_.P; ++i) put(to.weight, i, first_layer_.weight[i]);
    }
  }

  void finish_hidden(int layer) {
    if (engine_.measures) return finish_measured();
    const Layer<float>& to = gradients_.parameters.hidden[layer];
    const Layer<const float>& from = in_.parameters.hidden[layer];
    const int64_t H = in_.rule.hidden[layer], Hp = round_up(H, K_.width), K = engine_.weights.inputs(layer);
    const auto weight = [layer](const Sums& s) { return s.hidden[layer]; };
    const auto bias = [layer](const Sums& s) { return s.hidden_bias[layer]; };
    for (int64_t h = 0; h < H; ++h) {
      const double da = total(bias, h);
      double scale = 1.0, along = 0.0;
      if (has_stored_moments(in_.rule.norm)) {
        const double inverse = 1.0 / std::sqrt(static_cast<double>(from.running_var[h]) + in_.rule.norm_eps);
        for (int64_t i = 0; i < K; ++i) along += from.weight[h * K + i] * total(weight, i * Hp + h);
        scale = inverse * (from.norm_weight ? from.norm_weight[h] : 1.0);
        put(to.norm_weight, h, inverse * (along + (from.bias[h] - static_cast<double>(from.running_mean[h])) * da));
        put(to.norm_bias, h, da);
      } else if (has_cell_moments(in_.rule.norm)) {
        put(to.norm_weight, h, total([layer](const Sums& s) { return s.norm_weight[layer]; }, h));
        put(to.norm_bias, h, total([layer](const Sums& s) { return s.norm_bias[layer]; }, h));
      }
      put(to.bias, h, scale * da);
      for (int64_t i = 0; i < K; ++i) put(to.weight, h * K + i, scale * total(weight, i * Hp + h));
    }
  }

  static void put(float* to, int64_t place, double value) {
    if (to) to[place] = static_cast<float>(value);
  }

  const Inputs& in_;
  Engine engine_;
  uint8_t* tape_;
  const Gradients& gradients_;
  const Kernels& K_;
  std::vector<std::unique_ptr<SumMemory>> sums_;
  NormBack first_layer_;                         // gradients under a measured norm, over the steps
  std::vector<std::vector<double>> first_sums_;  // [threads, sets] of the present step, see take_first
  int64_t first_count_;                          // P Hp
  std::vector<uint8_t> life_;                    // [B * cells] of the present step
  std::vector<std::vector<BackwardRun>> runs_;   // [threads]
  bool waits_ = false;                           // any of their last bands
  Gradient g_;
  // What one filter gives is as large as a state, and is kept between the passes: two or more would not fit into five
  // states besides those kept. (AMD EPYC, one thread, 2026-11-28: training on 48^3 cells, 7^3, in 351 instead of 379
  // ms.)
  const bool recalls_;
  std::vector<Floats> given_;                   // [tasks] of a band's cells that have moved, [cells, P]: dL/dy
  std::vector<std::vector<Cell>> given_cells_;  // [threads] these cells
};

}  // namespace

void backward(const Inputs& in, int threads, const float* history, uint8_t* tape, const float* grad_out,
              const float* grad_history, const Gradients& gradients) {
  Backward(in, useful_threads(in.grid, threads), tape, gradients).run(history, grad_out, grad_history);
}

}  // namespace ncafast::cpu
