// The clamp of the state on a row of numbers: its values, a bit for each whose gradient passes (a NaN too), and
// gradients by those bits. Sixteen numbers at a time, whatever the width.

static_assert(max_width == 16 && max_width % W == 0, "two bytes of bits hold whole vectors");

// A bit per lane of a comparison.
NCAFAST_INLINE unsigned bits_of(ivec set) {
#if NCAFAST_WIDTH == 16
  return _mm512_movepi32_mask((__m512i)set);
#elif NCAFAST_WIDTH == 8
  return static_cast<unsigned>(_mm256_movemask_ps((__m256)set));
#else
  unsigned bits = 0;
  for (int i = 0; i < W; ++i) bits |= (set[i] & 1u) << i;
  return bits;
#endif
}

NCAFAST_INLINE unsigned clamp_block(float* values, vec lo, vec hi) {
  unsigned inside = 0;
  for (int i = 0; i < max_width; i += W) {
    const vec v = load(values + i);
    inside |= bits_of(~((v < lo) | (v > hi))) << i;
    const vec above = v < lo ? lo : v;
    store(values + i, above > hi ? hi : above);
  }
  return inside;
}

NCAFAST_INLINE void gate_block(float* grads, unsigned inside) {
  ivec lane;
  for (int i = 0; i < W; ++i) lane[i] = 1 << i;
  for (int i = 0; i < max_width; i += W) {
    const ivec bits = (ivec{} + static_cast<int>(inside >> i)) & lane;
    store(grads + i, bits != 0 ? load(grads + i) : vec{});
  }
}

static void clamp(float* values, int64_t count, const Clamp& to, uint8_t* inside) {
  for (int64_t i = 0; i < count; i += max_width) {
    const int64_t now = count - i < max_width ? count - i : max_width;
    float part[max_width] = {};
    float* block = now < max_width ? part : values + i;
    if (now < max_width) __builtin_memcpy(part, values + i, 4 * now);
    const uint16_t bits = static_cast<uint16_t>(clamp_block(block, all(to.lo), all(to.hi)));
    if (now < max_width) __builtin_memcpy(values + i, part, 4 * now);
    if (inside) __builtin_memcpy(inside + i / 8, &bits, 2);
  }
}

static void gate(float* grads, int64_t count, const uint8_t* inside) {
  for (int64_t i = 0; i < count; i += max_width) {
    const int64_t now = count - i < max_width ? count - i : max_width;
    float part[max_width] = {};
    float* block = now < max_width ? part : grads + i;
    if (now < max_width) __builtin_memcpy(part, grads + i, 4 * now);
    uint16_t bits;
    __builtin_memcpy(&bits, inside + i / 8, 2);
    gate_block(block, bits);
    if (now < max_width) __builtin_memcpy(grads + i, part, 4 * now);
  }
}
