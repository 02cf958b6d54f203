// The whole rollout backward, step by step in reverse: each step is recomputed from its state on the fired cells only.
//
// A norm with measured moments needs sums over all cells before the gradient of the perception is known (norm.cpp).
// What comes through the fired cells is spread while the sums are taken, the rest by a pass over all cells that does
// not see the MLP.
#include <algorithm>
#include <cstring>
#include <utility>

#include "engine.h"
#include "life.h"

namespace ncafast::cpu {
namespace {

class Backward {
 public:
  Backward(const Inputs& in, int threads, uint8_t* tape, const Gradients& gradients)
      : in_(in), engine_(in, threads), tape_(tape), gradients_(gradients), K_(engine_.kernels) {
    for (int i = 0; i < threads; ++i)
      sums_.push_back(std::make_unique<SumMemory>(in.rule, K_.width, engine_.geometry.taps));
    const int64_t H = in.rule.hidden[0];
    first_layer_.weight.resize(H * engine_.P);
    for (auto* sum : {&first_layer_.bias, &first_layer_.norm_weight, &first_layer_.norm_bias}) sum->resize(H);
    first_count_ = engine_.P * round_up(H, K_.width);
    first_sums_.resize(threads * engine_.sets);
    if (engine_.keeps_seen) given_ = Floats(in.grid.batch * engine_.geometry.cells * engine_.P);
    if (engine_.alive) life_.resize(in.grid.batch * engine_.geometry.cells);
  }

  void run(const float* history, const float* grad_out, const float* grad_history) {
    const int64_t size = in_.grid.batch * engine_.geometry.cells * in_.rule.channels;
    if (gradients_.x) use_large_pages(gradients_.x, 4 * size);
    Floats g = engine_.padded_floats(), next = engine_.padded_floats(), x = engine_.padded_floats();
    Floats added = grad_history ? engine_.padded_floats() : Floats();
    if (grad_out)
      engine_.pad_channels_first(grad_out, g.data());
    else
      g.clear();
    const Plan& plan = in_.plan;
    const int64_t every = plan.every ? plan.every : std::max<int64_t>(plan.steps, 1);
    std::vector<Floats> segment;  // the states of a stretch after its first
    for (int64_t i = 1; i < std::min(every, plan.steps); ++i) segment.push_back(engine_.padded_floats());
    for (int64_t start = (plan.steps - 1) / every * every; start >= 0 && plan.steps; start -= every) {
      const int64_t end = std::min(start + every, plan.steps);
      if (start)
        engine_.pad_channels_last(history + (start / every - 1) * size, x.data());
      else
        engine_.pad_channels_first(static_cast<const float*>(in_.x), x.data());
      const auto state = [&](int64_t t) { return t == start ? x.data() : segment[t - start - 1].data(); };
      for (int64_t t = start; t + 1 < end; ++t) engine_.step_again(t, state(t), state(t + 1), tape(t));
      for (int64_t t = end - 1; t >= start; --t) {
        const int64_t number = t + 1;
        if (grad_history && plan.every && number % plan.every == 0 && number / plan.every <= plan.kept) {
          engine_.pad_channels_first(grad_history + (number / plan.every - 1) * size, added.data());
          for (int64_t i = 0; i < g.count(); ++i) g[i] += added[i];
        }
        step(t, state(t), g.data(), next.data());
        std::swap(g, next);
      }
    }
    if (gradients_.x) engine_.cut_channels_first(g.data(), static_cast<float*>(gradients_.x));
    finish();
  }

 private:
  StepTape tape(int64_t t) const { return tape_at(in_.rule, in_.grid, tape_, t); }

  void step(int64_t t, const float* x, float* g, float* next) {
    if (engine_.measures) engine_.normalise(tape(t));
    engine_.pooled.measure(x);
    begin(t, g, next);
    over_bands(t, x, g, next, [&](Job& job, const Scratch& s, const Sums& sums, int64_t sample, const Band& band) {
      if (engine_.keeps_seen) look(job, s, sample, band);
      const uint8_t* wanted = engine_.alive ? life_.data() + sample * engine_.geometry.cells : nullptr;
      const int32_t count = engine_.list_cells(t, sample, band, wanted, s);
      K_.backward(job, s, sums, s.cells, count);
      if (engine_.measures) keep_first(sums, engine_.set_of(sample));
      return count;
    });
    if (engine_.measures) correct(t, x, g, next);
    engine_.pooled.spread(x, next);
    engine_.tables.fold_border(next, in_.grid.batch, engine_.threads);
  }

  // Where the filters are dear, a band's cells look once for both passes over them, and the fired cells' gradient is
  // spread together with the second pass's.
  void look(Job& job, const Scratch& s, int64_t sample, const Band& band) {
    engine_.keep_seen(job, sample, false);
    K_.see(job, s, s.cells, engine_.list_all(band, s));
    job.seen_known = true;
    job.given = given_at(sample);
    std::fill(job.given + band.begin * int64_t{engine_.P}, job.given + band.end * int64_t{engine_.P}, 0.0f);
  }

  float* given_at(int64_t sample) { return given_.data() + sample * engine_.geometry.cells * engine_.P; }

  // The residual's share of dL/dx_t: what of g = dL/dx_(t+1) passes the alive mask; restored channels have a way of
  // their own past everything. Of g itself only what passes the clamp is left. The border starts at zero.
  void begin(int64_t t, float* g, float* next) {
    const int64_t C = in_.rule.channels, N = engine_.geometry.cells, line = engine_.geometry.padded[2];
    const int32_t *r = engine_.geometry.radius, *n = engine_.geometry.padded;
    if (engine_.alive)
      for (int64_t b = 0; b < in_.grid.batch; ++b)
        unpack_bits(tape(t).life + b * ((N + 7) / 8), N, life_.data() + b * N);
    const StepTape here = tape(t);
    const int64_t lines = in_.grid.batch * n[0] * n[1];
#pragma omp parallel for num_threads(engine_.threads) schedule(static)
    for (int64_t i = 0; i < lines; ++i) {
      const int64_t sample = i / (n[0] * n[1]), z = i / n[1] % n[0] - r[0], y = i % n[1] - r[1];
      float* to = next + i * line * C;
      float* from = g + i * line * C;
      const int32_t* size = engine_.geometry.size;
      if (z < 0 || z >= size[0] || y < 0 || y >= size[1]) {
        std::memset(to, 0, 4 * line * C);
        continue;
      }
      const int64_t row = sample * engine_.tables.rows() + z * size[1] + y;
      if (engine_.clamps) K_.gate(from + r[2] * C, size[2] * C, here.inside + row * bit_bytes(size[2] * C));
      const uint8_t* life = engine_.clears ? life_.data() + sample * N + (z * size[1] + y) * size[2] : nullptr;
      if (life && !engine_.restore && !std::memchr(life, 1, size[2])) {
        std::memset(to, 0, 4 * line * C);
        continue;
      }
      std::memset(to, 0, 4 * r[2] * C);
      std::memcpy(to + r[2] * C, from + r[2] * C, 4 * size[2] * C);
      std::memset(to + (r[2] + size[2]) * C, 0, 4 * r[2] * C);
      for (int64_t x = 0; life && x < size[2]; ++x)
        if (!life[x])
          for (int64_t c = 0; c < C; ++c)
            if (c < in_.rule.restore_lo || c >= in_.rule.restore_hi) to[(r[2] + x) * C + c] = 0.0f;
    }
  }

  // Runs `work`, which returns how many cells it saw, on every band, colour by colour, so that no two threads reach the
  // same cell's gradient.
  template <class Work>
  void over_bands(int64_t t, const float* x, const float* g, float* next, const Work& work) {
    const int64_t per_sample = static_cast<int64_t>(engine_.bands.size()), size = engine_.padded_sample();
    for (int colour = 0; colour < colours; ++colour) {
      std::vector<int64_t> tasks;
      for (int64_t i = 0; i < in_.grid.batch * per_sample; ++i)
        if (engine_.bands[i % per_sample].colour == colour) tasks.push_back(i);
      if (tasks.empty()) continue;
      const int64_t count = static_cast<int64_t>(tasks.size());
#pragma omp parallel for num_threads(engine_.threads) schedule(static)
      for (int64_t i = 0; i < count; ++i) {
        const int me = this_thread();
        const int64_t sample = tasks[i] / per_sample;
        Job job = engine_.job(t, sample);
        job.x = x + sample * size;
        job.grad = g + sample * size;
        job.grad_x = next + sample * size;
        const Extra<float>& extra = gradients_.extra;
        if (extra.values) job.grad_extra = extra.values + t * extra.step_stride + sample * extra.sample_stride;
        job.grad_pooled = engine_.pooled.band(me);
        SumMemory& memory = *sums_[me];
        memory.added(work(job, engine_.scratch[me], memory.sums, sample, engine_.bands[tasks[i] % per_sample]));
        engine_.pooled.keep(me, sample);
      }
    }
  }

  // Measured norms: this step's share of the gradients of norm and first layer, and dy's part on every cell.
  void correct(int64_t t, const float* x, const float* g, float* next) {
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
    over_bands(t, x, g, next, [&](Job& job, const Scratch& s, const Sums& sums, int64_t sample, const Band& band) {
      const NormBack& back = backs[engine_.set_of(sample)];
      engine_.keep_seen(job, sample, true);
      if (engine_.keeps_seen) job.given = given_at(sample);
      const int32_t count = engine_.list_all(band, s);
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
  Floats given_;                                 // [B, cells, P] see look
};

}  // namespace

void backward(const Inputs& in, int threads, const float* history, uint8_t* tape, const float* grad_out,
              const float* grad_history, const Gradients& gradients) {
  Backward(in, threads, tape, gradients).run(history, grad_out, grad_history);
}

}  // namespace ncafast::cpu
