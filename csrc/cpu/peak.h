// A loop of multiply-adds on registers, which nothing else slows down: what this instruction set can do at most.

#ifdef NCAFAST_BF16
constexpr int64_t values_of_a_lane = 2;
NCAFAST_INLINE vec multiply_add_once(vec sum, vec a, vec b) { return Pairs::add(sum, a, b); }
#else
constexpr int64_t values_of_a_lane = 1;
NCAFAST_INLINE vec multiply_add_once(vec sum, vec a, vec b) { return sum * a + b; }
#endif

constexpr int peak_sums = NCAFAST_REGISTERS == 32 ? 24 : 12;  // more than latency times throughput of any processor yet
constexpr int64_t multiply_add_operations = 2 * values_of_a_lane * peak_sums * W;

// Its result depends on every operation, so that none can be left out.
static float multiply_add(int64_t rounds) {
  const vec factor = all(0.999f), term = all(1e-7f);
  vec sum[peak_sums];
#pragma GCC unroll 24
  for (int j = 0; j < peak_sums; ++j) sum[j] = all(1e-6f * j);  // all different: equal ones would be computed once
  for (int64_t i = 0; i < rounds; ++i)
#pragma GCC unroll 24
    for (int j = 0; j < peak_sums; ++j) sum[j] = multiply_add_once(sum[j], factor, term);
  vec total = {};
#pragma GCC unroll 24
  for (int j = 0; j < peak_sums; ++j) total += sum[j];
  return total[0];
}
