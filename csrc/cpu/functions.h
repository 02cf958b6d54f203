// Elementary functions on vectors, to about float32 rounding.

// The largest integer vectors round to by this trick is 2^22, far beyond an exponent.
NCAFAST_INLINE vec nearest(vec v) {
  const vec magic = all(12582912.0f);  // 1.5 * 2^23
  return (v + magic) - magic;
}

// e^v: v = n ln 2 + r with |r| <= ln 2 / 2; Taylor in r to the 7th power (relative error 5e-9), times 2^n.
NCAFAST_INLINE vec exp(vec v) {
  v = v < -87.0f ? all(-87.0f) : v;
  v = v > 88.0f ? all(88.0f) : v;
  const vec n = nearest(v * 1.44269504f);
  const vec r = (v - n * 0.693359375f) + n * 2.12194440e-4f;
  vec p = r * (1.0f / 5040) + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const ivec exponent = (__builtin_convertvector(n, ivec) + 127) << 23;
  return p * (vec)exponent;
}

// e^v - 1 without cancellation near 0.
NCAFAST_INLINE vec expm1(vec v) {
  vec p = v * (1.0f / 40320) + 1.0f / 5040;
  p = p * v + 1.0f / 720;
  p = p * v + 1.0f / 120;
  p = p * v + 1.0f / 24;
  p = p * v + 1.0f / 6;
  p = p * v + 0.5f;
  p = p * v + 1.0f;
  const vec size = v < 0.0f ? -v : v;
  return size < 0.5f ? p * v : exp(v) - 1.0f;
}

// Taylor below 0.3 (the first term left out is below 1e-9 of the value), (1 - e) / (1 + e) with e = e^(-2 |v|) above.
NCAFAST_INLINE vec tanh(vec v) {
  const vec q = v * v;
  vec p = q * (-1382.0f / 155925) + 62.0f / 2835;
  p = p * q - 17.0f / 315;
  p = p * q + 2.0f / 15;
  p = p * q - 1.0f / 3;
  p = p * q + 1.0f;
  const vec size = v < 0.0f ? -v : v;
  const vec e = exp(-2.0f * size), large = (1.0f - e) / (1.0f + e);
  return size < 0.3f ? p * v : (v < 0.0f ? -large : large);
}

// Its derivative. 1 - tanh(v)^2 would lose the digits of a small one.
NCAFAST_INLINE vec tanh_slope(vec v) {
  const vec e = exp(v < 0.0f ? v + v : -2.0f * v), whole = 1.0f + e;
  return 4.0f * e / (whole * whole);
}

NCAFAST_INLINE vec sigmoid(vec v) { return 1.0f / (1.0f + exp(-v)); }

// Taylor below 1 (11 terms, error 1e-8); above, 1 - e^(-a a) t P(t) with t = 1 / (1 + a / 2) and P fitted by Chebyshev
// least squares to erfc(a) e^(a a) / t over a in [0.9, 12] (relative error 6e-9 before rounding).
NCAFAST_INLINE vec erf(vec v) {
  const vec a = v < 0.0f ? -v : v, q = v * v;
  vec s = q * (1.0f / 76204800) - 1.0f / 6894720;
  s = s * q + 1.0f / 685440;
  s = s * q - 1.0f / 75600;
  s = s * q + 1.0f / 9360;
  s = s * q - 1.0f / 1320;
  s = s * q + 1.0f / 216;
  s = s * q - 1.0f / 42;
  s = s * q + 1.0f / 10;
  s = s * q - 1.0f / 3;
  s = s * q + 1.0f;
  const vec t = 1.0f / (1.0f + 0.5f * a);
  vec p = t * -0.0377164446f + 0.216334581f;
  p = p * t - 0.396532089f;
  p = p * t + 0.213353977f;
  p = p * t + 9.50142494e-5f;
  p = p * t + 0.196312815f;
  p = p * t + 0.243920222f;
  p = p * t + 0.282330602f;
  p = p * t + 0.28208667f;
  const vec tail = 1.0f - exp(-q) * t * p;
  return a < 1.0f ? v * s * 1.12837917f : (v < 0.0f ? -tail : tail);
}
