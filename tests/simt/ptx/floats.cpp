// Arithmetic of floats. Approximations are computed in double precision and rounded once: closer
// than the ISA asks of the device.

#include <cfenv>
#include <cfloat>
#include <cmath>

#include "compare.hpp"
#include "instruction.hpp"

namespace simt::ptx {
namespace {

/// Subnormal numbers become zeros of their sign.
float flush(float x) { return std::fabs(x) < FLT_MIN ? std::copysign(0.0f, x) : x; }

template <double (*kFunction)(double)>
float approximate(float x) {
  return static_cast<float>(kFunction(x));
}

template <double (*kFunction)(double)>
void add_approximation(Meanings& all, const std::string& name) {
  all[name + ".approx.f32"] = pure([](float x) { return approximate<kFunction>(x); });
  all[name + ".approx.ftz.f32"] =
      pure([](float x) { return flush(approximate<kFunction>(flush(x))); });
}

double reciprocal(double x) { return 1 / x; }
double reciprocal_root(double x) { return 1 / std::sqrt(x); }

/// rcp.approx.ftz.f64: the low half of the significand is 0.
double coarse_reciprocal(double x) {
  const double exact = 1 / x;
  if (!std::isfinite(exact)) return exact;
  std::uint64_t bits;
  std::memcpy(&bits, &exact, sizeof bits);
  bits &= ~std::uint64_t{0xffffffff};
  double coarse;
  std::memcpy(&coarse, &bits, sizeof coarse);
  return coarse;
}

float fma_rounded_down(float a, float b, float c) {
  const int before = std::fegetround();
  std::fesetround(FE_DOWNWARD);
  const volatile float x = a;
  const volatile float result = std::fma(x, b, c);
  std::fesetround(before);
  return result;
}

/// A number wins over a NaN, and 0 is more than -0.
template <class T>
T smaller(T a, T b) {
  if (a == b) return std::signbit(a) ? a : b;
  return std::fmin(a, b);
}
template <class T>
T larger(T a, T b) {
  if (a == b) return std::signbit(a) ? b : a;
  return std::fmax(a, b);
}

template <class T>
void add_float(Meanings& all, const std::string& type) {
  for (const std::string& name : {type, "rn." + type}) {
    all["add." + name] = pure([](T a, T b) -> T { return a + b; });
    all["sub." + name] = pure([](T a, T b) -> T { return a - b; });
    all["mul." + name] = pure([](T a, T b) -> T { return a * b; });
  }
  all["div.rn." + type] = pure([](T a, T b) -> T { return a / b; });
  all["rcp.rn." + type] = pure([](T a) -> T { return 1 / a; });
  all["sqrt.rn." + type] = pure([](T a) -> T { return std::sqrt(a); });
  all["fma.rn." + type] = pure([](T a, T b, T c) -> T { return std::fma(a, b, c); });
  all["min." + type] = pure([](T a, T b) { return smaller(a, b); });
  all["max." + type] = pure([](T a, T b) { return larger(a, b); });
  all["neg." + type] = pure([](T a) -> T { return -a; });
  all["abs." + type] = pure([](T a) -> T { return std::fabs(a); });
  all["copysign." + type] = pure([](T sign, T a) -> T { return std::copysign(a, sign); });
  add_comparisons<T>(all, type);
  add_comparison<T>(all, "equ", type, [](T a, T b) { return !(a < b || a > b); });
  add_comparison<T>(all, "neu", type, [](T a, T b) { return a != b; });
  add_comparison<T>(all, "ltu", type, [](T a, T b) { return !(a >= b); });
  add_comparison<T>(all, "leu", type, [](T a, T b) { return !(a > b); });
  add_comparison<T>(all, "gtu", type, [](T a, T b) { return !(a <= b); });
  add_comparison<T>(all, "geu", type, [](T a, T b) { return !(a < b); });
  add_comparison<T>(all, "nan", type, [](T a, T b) { return std::isunordered(a, b); });
  add_comparison<T>(all, "num", type, [](T a, T b) { return !std::isunordered(a, b); });
}

}  // namespace

void add_floats(Meanings& all) {
  add_float<float>(all, "f32");
  add_float<double>(all, "f64");
  all["fma.rm.f32"] = pure([](float a, float b, float c) { return fma_rounded_down(a, b, c); });
  all["rcp.approx.ftz.f64"] = pure([](double x) { return coarse_reciprocal(x); });
  add_approximation<std::exp2>(all, "ex2");
  add_approximation<std::log2>(all, "lg2");
  add_approximation<std::sqrt>(all, "sqrt");
  add_approximation<std::tanh>(all, "tanh");
  add_approximation<reciprocal>(all, "rcp");
  add_approximation<reciprocal_root>(all, "rsqrt");
  all["div.approx.f32"] = all["div.full.f32"] = all["div.rn.f32"];
}

}  // namespace simt::ptx
