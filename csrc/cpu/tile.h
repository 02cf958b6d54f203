// The tile kernels: a handful of cells through a whole step, forward and backward, without leaving the cache.

// The MLP on the perception in scratch; leaves every layer's value, and slopes where backward will ask for them.
static void run_hidden(const Job& job, const Scratch& s, const Cell* cells, int count, bool slopes) {
  const Packed& p = *job.packed;
  if (job.dropout.drops()) draw_kept(job, s, cells, count);
  const float* input = s.perception;
  int64_t ld = perception_stride(p);
  for (int layer = 0; layer < p.layers; ++layer) {
    const Dense& d = p.hidden[layer];
    const int64_t width = round_up(d.outputs, W), stride = row_stride(d.outputs, W);
    float* z = s.value[layer];
    if (p.activation == Activation::relu && !p.layer_norm) {
      mlp_product<Start::bias, End::relu>(s, count, width, d.inputs, input, ld, d.forward, d.bias, z, stride);
    } else {
      mlp_product<Start::bias>(s, count, width, d.inputs, input, ld, d.forward, d.bias, z, stride);
      if (p.layer_norm) through_layer_norm(p, s, layer, count, z);
      if (slopes) differentiate(p.activation, count * stride, z, s.slope[layer]);
      activate(p.activation, p.slope, count * stride, z);
    }
    drop(job, s, layer, count, z);
    input = z;
    ld = stride;
  }
}

// What the update layer gives, in `to` [count, Cp], before its activation.
static void run_update(const Job& job, const Scratch& s, int count, float* to) {
  const Packed& p = *job.packed;
  const Dense& d = p.update;
  const int64_t width = round_up(d.outputs, W), ld = row_stride(d.inputs, W);
  mlp_product<Start::bias>(s, count, width, d.inputs, s.value[p.layers - 1], ld, d.forward, d.bias, to, width);
}

static void forward_tile(const Job& job, const Scratch& s, const Cell* cells, int count) {
  const Packed& p = *job.packed;
  perceive(job, s, cells, count, p.centre, false);
  run_hidden(job, s, cells, count, false);
  run_update(job, s, count, s.update);
  const int64_t width = round_up(p.channels, W);
  activate(p.update_activation, p.slope, count * width, s.update);
  const vec scale = all(job.scale);
  for (int c = 0; c < p.channels; c += W) {
    const auto to = [&](int i) { return job.out + static_cast<int64_t>(cells[i].index) * p.channels + c; };
    const auto moved = [&](int i) { return keep(scale * load(s.update + i * width + c), job.moved + c); };
    const int valid = valid_of(p.channels, c);
    if (valid == W)
      for (int i = 0; i < count; ++i) store(to(i), load(to(i)) + moved(i));
    else
      for (int i = 0; i < count; ++i) store_first(to(i), load_first(to(i), valid) + moved(i), valid);
  }
}

static void forward(const Job& job, const Scratch& s, const Cell* cells, int32_t count) {
  for (int32_t i = 0; i < count; i += tile_cells)
    forward_tile(job, s, cells + i, count - i < tile_cells ? count - i : tile_cells);
}

// to = dL/d(what the activation of a hidden layer gets), from dL/d(output) [count, ld] of the layer above it.
static void delta_through_hidden(const Job& job, const Scratch& s, int layer, int count, const float* from, int64_t ld,
                                 const Dense& above, float* to) {
  const Packed& p = *job.packed;
  const int64_t width = round_up(above.inputs, W), stride = row_stride(above.inputs, W);
  const float* value = s.value[layer];
  if (p.activation == Activation::relu) {
    mlp_product<Start::zero, End::relu_slope>(s, count, width, above.outputs, from, ld, above.backward, nullptr, to,
                                              stride, value);
  } else {
    mlp_product<Start::zero>(s, count, width, above.outputs, from, ld, above.backward, nullptr, to, stride);
    through_activation(p.activation, p.slope, count * stride, value, s.slope[layer], to);
  }
  drop(job, s, layer, count, to);
}

// s.update = dL/dd times the derivative of the update's activation, which is computed again.
static void delta_through_update(const Job& job, const Scratch& s, int count) {
  const Packed& p = *job.packed;
  if (p.update_activation == Activation::identity) return;
  const int64_t size = count * round_up(p.channels, W);
  run_update(job, s, count, s.update_slope);
  if (slope_from_value(p.update_activation))
    activate(p.update_activation, p.slope, size, s.update_slope);
  else
    differentiate(p.update_activation, size, s.update_slope, s.update_slope);
  through_activation(p.update_activation, p.slope, size, s.update_slope, s.update_slope, s.update);
}

// `grad` and `given` are the rows of these cells.
static void backward_tile(const Job& job, const Scratch& s, const Sums& sums, const Cell* cells, int count,
                          const float* grad, float* given) {
  const Packed& p = *job.packed;
  const bool slopes = !slope_from_value(p.activation);
  perceive(job, s, cells, count, p.centre, p.dense && !slope_from_value(p.dense_activation));
  run_hidden(job, s, cells, count, slopes);

  // dL/dd: the gradient of the next state, where an update counts.
  const int64_t Cp = round_up(p.channels, W);
  const vec scale = all(job.scale);
  for (int i = 0; i < count; ++i) {
    const float* from = grad + static_cast<int64_t>(i) * p.channels;
    for (int c = 0; c < p.channels; c += W) store(s.update + i * Cp + c, scale * keep(load(from + c), job.touched + c));
  }
  delta_through_update(job, s, count);
  const int last = p.layers - 1;
  const int64_t top = round_up(p.update.inputs, W), top_stride = row_stride(p.update.inputs, W);
  add_columns(count, Cp, s.update, Cp, sums.update_bias);
  gemm<Start::add>(p.channels, top, count, s.update, 1, Cp, s.value[last], top_stride, nullptr, sums.update, top);
  float* delta = s.delta[0];
  delta_through_hidden(job, s, last, count, s.update, Cp, p.update, delta);

  for (int layer = last; layer >= 0; --layer) {
    const Dense& d = p.hidden[layer];
    const int64_t width = round_up(d.outputs, W), stride = row_stride(d.outputs, W);
    if (p.layer_norm) back_through_layer_norm(p, s, sums, layer, count, delta);
    add_columns(count, width, delta, stride, sums.hidden_bias[layer]);
    const float* input = layer ? s.value[layer - 1] : s.perception;
    const int64_t ld = layer ? row_stride(d.inputs, W) : perception_stride(p);
    gemm<Start::add>(d.inputs, width, count, input, 1, ld, delta, stride, nullptr, sums.hidden[layer], width);
    if (layer) {
      float* below = s.delta[delta == s.delta[0]];
      delta_through_hidden(job, s, layer - 1, count, delta, stride, d, below);
      delta = below;
    } else {
      const int64_t inputs = round_up(d.inputs, W);
      mlp_product<Start::zero>(s, count, inputs, d.outputs, delta, stride, d.backward, nullptr, s.grad_perception,
                               perception_stride(p));
    }
  }
  const int64_t ldy = perception_stride(p);
  if (!given) return spread_back(job, s, sums, cells, count, s.grad_perception, ldy);
  for (int i = 0; i < count; ++i)
    copy(given + i * static_cast<int64_t>(p.perception), s.grad_perception + i * ldy, p.perception);
}

static void see(const Job& job, const Scratch& s, const Cell* cells, int32_t count) {
  const int own = job.packed->identity ? job.packed->channels : 0;
  for (int32_t i = 0; i < count; i += tile_cells)
    see_or_recall(job, cells + i, count - i < tile_cells ? count - i : tile_cells, nullptr, s.perception + own,
                  perception_stride(*job.packed));
}

static void backward(const Job& job, const Scratch& s, const Sums& sums, const Cell* cells, int32_t count) {
  const int64_t C = job.packed->channels, P = job.packed->perception;
  for (int32_t i = 0; i < count; i += tile_cells)
    backward_tile(job, s, sums, cells + i, count - i < tile_cells ? count - i : tile_cells, job.grad + i * C,
                  job.given ? job.given + i * P : nullptr);
}

// Blocks of W rows of the second moment, from the diagonal block to the right: the rest follows by symmetry.
static void moments(const Job& job, const Scratch& s, const float* shift, float* first, float* second,
                    const Cell* cells, int32_t count) {
  const Packed& p = *job.packed;
  const int64_t ldy = perception_stride(p), Pp = round_up(p.perception, W);
  constexpr int block = W < 16 ? 8 : W;
  for (int32_t i = 0; i < count; i += tile_cells) {
    const int now = count - i < tile_cells ? count - i : tile_cells;
    perceive(job, s, cells + i, now, shift, false);
    if (p.perception < Pp)  // rubbish there must not become NaN times zero later
      for (int n = 0; n < now; ++n) {
        float* last = s.perception + n * ldy + Pp - W;
        store(last, load_first(last, valid_of(p.perception, static_cast<int>(Pp) - W)));
      }
    add_columns(now, Pp, s.perception, ldy, first);
    for (int64_t r = 0; r < p.perception; r += block) {
      const int64_t rows = p.perception - r < block ? p.perception - r : block;
      // Two or three vectors of columns at once: the rows that their kernels hold divide a block, whose next one must
      // not be added to twice.
      for (int64_t from = r / W * W, columns; from < Pp; from += columns) {
        const int64_t left = Pp - from;
        columns = left == 2 * W || left == 4 * W ? 2 * W : left < 3 * W ? left : 3 * W;
        gemm<Start::add>(rows, columns, now, s.perception + r, 1, ldy, s.perception + from, ldy, nullptr,
                         second + r * Pp + from, Pp);
      }
    }
  }
}

static void affine(const Job& job, const Scratch& s, const Sums& sums, const float* matrix, const float* offset,
                   const Cell* cells, int32_t count) {
  const Packed& p = *job.packed;
  const int64_t ldy = perception_stride(p), Pp = round_up(p.perception, W);
  int32_t next = 0;  // of those that are given
  for (int32_t i = 0; i < count; i += tile_cells) {
    const int now = count - i < tile_cells ? count - i : tile_cells;
    perceive(job, s, cells + i, now, p.centre, p.dense && !slope_from_value(p.dense_activation));
    gemm<Start::bias>(now, Pp, p.perception, s.perception, ldy, 1, matrix, Pp, offset, s.grad_perception, ldy);
    for (int n = 0; n < now && next < job.given_count; ++n) {
      if (job.given_cells[next].index != cells[i + n].index) continue;
      const float* given = job.given + next++ * static_cast<int64_t>(p.perception);
      float* dy = s.grad_perception + n * ldy;
      for (int c = 0; c < p.perception; c += W) add_first(dy + c, load(given + c), valid_of(p.perception, c));
    }
    spread_back(job, s, sums, cells + i, now, s.grad_perception, ldy);
  }
}

static void matmul(int64_t M, int64_t N, int64_t K, const float* a, int64_t am, int64_t ak, const float* b, int64_t ldb,
                   float* d, int64_t ldd) {
  gemm<Start::zero>(M, N, K, a, am, ak, b, ldb, nullptr, d, ldd);
}

static const Kernels kernels = {
    NCAFAST_NAME,           W, draw, forward, see, backward, moments, affine, clamp, gate, matmul, multiply_add,
    multiply_add_operations};
