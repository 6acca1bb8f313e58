// Runs the CUDA kernels of the losses on the CPU and compares them with their definitions in float64. Prints
// a line per case that is wrong, and the number of cases.
#define ALAMBIC_EMULATED_CUDA
#include <cstdio>
#include <cstring>
#include <random>
#include <string>

#include "cuda/kernels.cu"

namespace {

using namespace alambic::cuda::kernels;
using Numbers = std::vector<double>;

constexpr double norm_floor = 1e-12;
int cases = 0, failures = 0;

// `size` is that of the terms which the expected numbers are sums of, and which may cancel.
void expect_close(const std::string& what, const Numbers& got, const Numbers& expected, double tolerance,
                  double size = 0) {
  cases++;
  double largest = size, worst = 0;
  for (size_t i = 0; i < expected.size(); i++) {
    largest = std::max(largest, std::abs(expected[i]));
    double difference = std::abs(got[i] - expected[i]);
    worst = std::isnan(difference) ? INFINITY : std::max(worst, difference);
  }
  if (got.size() == expected.size() && worst <= tolerance * largest) return;
  failures++;
  std::printf("%s: off by %g, where the largest is %g\n", what.c_str(), worst, largest);
}

// Elements in memory that starts `offset` elements after an address that packs could be loaded from.
template <typename T>
struct Memory {
  Memory(size_t count, int offset) : bytes((count + offset) * sizeof(T) + 64), count(count) {
    auto address = reinterpret_cast<uintptr_t>(bytes.data());
    data = reinterpret_cast<T*>((address + 31) / 32 * 32) + offset;
    std::memset(bytes.data(), 0xff, bytes.size());  // what is not written is no number
  }
  Memory(const Numbers& numbers, int offset) : Memory(numbers.size(), offset) {
    for (size_t i = 0; i < count; i++) data[i] = static_cast<T>(static_cast<float>(numbers[i]));
  }
  Numbers read() const {
    Numbers numbers;
    for (size_t i = 0; i < count; i++) numbers.push_back(static_cast<double>(data[i]));
    return numbers;
  }
  std::vector<char> bytes;
  size_t count;
  T* data;
};

std::mt19937 random_engine(7);

template <typename T>
Numbers random_numbers(size_t count) {
  std::normal_distribution<float> normal;
  Numbers numbers;
  for (size_t i = 0; i < count; i++)
    numbers.push_back(static_cast<double>(static_cast<T>(normal(random_engine))));
  return numbers;
}

template <typename T>
constexpr Type type_of = std::is_same_v<T, float>    ? Type::Float
                         : std::is_same_v<T, double> ? Type::Double
                         : std::is_same_v<T, __half> ? Type::Half
                                                     : Type::BFloat16;
template <typename T>
const char* name_of() {
  const char* names[] = {"float32", "float64", "float16", "bfloat16"};
  return names[static_cast<int>(type_of<T>)];
}
// Of results in the wider type, and of gradients in the feature's own.
template <typename T>
constexpr double wide_tolerance = std::is_same_v<T, double> ? 1e-13 : 1e-5;
template <typename T>
constexpr double own_tolerance = std::is_same_v<T, __half>          ? 1e-3
                                 : std::is_same_v<T, __nv_bfloat16> ? 8e-3
                                                                    : wide_tolerance<T>;

template <typename T>
void test_mse(int64_t samples, int64_t size, int offset, const std::string& name) {
  using A = Wide<T>;
  size_t count = samples * size;
  auto a = random_numbers<T>(count), b = random_numbers<T>(count);
  double sum = 0, g = 0.75;
  Numbers da, db;
  for (size_t i = 0; i < count; i++) {
    double difference = a[i] - b[i];
    sum += difference * difference;
    da.push_back(2 * g / count * difference);
    db.push_back(-da.back());
  }
  Memory<T> x(a, offset), y(b, offset), dx(count, offset), dy(count, offset);
  Pair pair{type_of<T>, x.data, y.data, samples, size};
  Memory<double> scratch(mse_scratch(pair), 0);
  Memory<A> loss(1, 0), gradient(Numbers{g}, 0);
  mse(pair, scratch.data, loss.data, nullptr);
  expect_close("mse " + name, loss.read(), {sum / count}, wide_tolerance<T>);
  mse_gradients(pair, gradient.data, dx.data, dy.data, nullptr);
  expect_close("mse da " + name, dx.read(), da, own_tolerance<T>);
  expect_close("mse db " + name, dy.read(), db, own_tolerance<T>);
  Memory<T> only(count, offset);
  mse_gradients(pair, gradient.data, nullptr, only.data, nullptr);
  expect_close("mse db alone " + name, only.read(), db, own_tolerance<T>);
}

// 1 / the norm of a sample. Float16 cannot hold what 1 / 1e-12 makes: there a norm below 2⁻¹⁴ has no inverse.
template <typename T>
double inverse_norm(double squared) {
  double norm = std::sqrt(squared);
  if (std::is_same_v<T, __half>) return norm < 0x1p-14 ? 0 : 1 / norm;
  return 1 / std::max(norm, norm_floor);
}

// With a sample of zeros, whose norm is below the floor.
template <typename T>
void test_cosine(int64_t samples, int64_t size, int offset, const std::string& name) {
  using A = Wide<T>;
  size_t count = samples * size;
  auto a = random_numbers<T>(count), b = random_numbers<T>(count);
  if (samples > 1) std::fill(a.begin() + size, a.begin() + 2 * size, 0);
  double total = 0, g = -1.5;
  double size_a = 0, size_b = 0;  // of the gradients' terms
  Numbers products, da(count), db(count);
  for (int64_t s = 0; s < samples; s++) {
    double aa = 0, bb = 0, ab = 0;
    for (int64_t i = s * size; i < (s + 1) * size; i++) {
      aa += a[i] * a[i];
      bb += b[i] * b[i];
      ab += a[i] * b[i];
    }
    products.insert(products.end(), {aa, bb, ab});
    double na = inverse_norm<T>(aa), nb = inverse_norm<T>(bb);
    total += 1 - ab * na * nb;
    for (int64_t i = s * size; i < (s + 1) * size; i++) {
      double along_a = std::sqrt(aa) >= norm_floor ? ab * na * na * a[i] : 0;
      double along_b = std::sqrt(bb) >= norm_floor ? ab * nb * nb * b[i] : 0;
      if (s != 1) size_a = std::max(size_a, std::abs(g / samples * na * nb * b[i]));
      if (s != 1) size_b = std::max(size_b, std::abs(g / samples * na * nb * a[i]));
      da[i] = g / samples * na * nb * (along_a - b[i]);
      db[i] = g / samples * na * nb * (along_b - a[i]);
    }
  }
  Memory<T> x(a, offset), y(b, offset), dx(count, offset), dy(count, offset);
  Pair pair{type_of<T>, x.data, y.data, samples, size};
  Memory<double> scratch(cosine_scratch(pair), 0);
  Memory<A> loss(1, 0), kept(samples * 3, 0), gradient(Numbers{g}, 0);
  cosine(pair, scratch.data, kept.data, loss.data, nullptr);
  expect_close("cosine " + name, loss.read(), {total / samples}, wide_tolerance<T>, 1);
  expect_close("cosine kept " + name, kept.read(), products, wide_tolerance<T>);
  cosine_gradients(pair, kept.data, gradient.data, dx.data, dy.data, nullptr);
  // But in float16 the gradient of the zeros is 1e12 times the others: they are compared without.
  auto without = [&](Numbers numbers) {
    if (samples > 1) numbers.erase(numbers.begin() + size, numbers.begin() + 2 * size);
    return numbers;
  };
  expect_close("cosine da " + name, without(dx.read()), without(da), own_tolerance<T>, size_a);
  expect_close("cosine db " + name, without(dy.read()), without(db), own_tolerance<T>, size_b);
  if (samples > 1) expect_close("cosine da of zeros " + name, dx.read(), da, own_tolerance<T>, size_a);
}

template <typename T>
void test_attention(int64_t samples, int64_t channels, int64_t positions, bool channels_last, int offset,
                    const std::string& name) {
  using A = Wide<T>;
  size_t count = samples * channels * positions;
  auto x = random_numbers<T>(count), dmap = random_numbers<A>(samples * positions);
  auto index = [&](int64_t n, int64_t c, int64_t k) {
    return channels_last ? (n * positions + k) * channels + c : (n * channels + c) * positions + k;
  };
  double term = 0;
  Numbers map, keep, gradient(count);
  for (int64_t n = 0; n < samples; n++) {
    Numbers squares(positions);
    double squared = 0, along = 0;
    for (int64_t k = 0; k < positions; k++) {
      for (int64_t c = 0; c < channels; c++) squares[k] += x[index(n, c, k)] * x[index(n, c, k)];
      squares[k] /= channels;
      squared += squares[k] * squares[k];
    }
    double norm = std::max(std::sqrt(squared), norm_floor);
    for (auto& each : squares) each /= norm;
    for (int64_t k = 0; k < positions; k++) along += squares[k] * dmap[n * positions + k];
    for (int64_t k = 0; k < positions; k++)
      for (int64_t c = 0; c < channels; c++) {
        term = std::max(term, std::abs(2 * x[index(n, c, k)] / channels / norm * dmap[n * positions + k]));
        gradient[index(n, c, k)] =
            2 * x[index(n, c, k)] / channels / norm * (dmap[n * positions + k] - along * squares[k]);
      }
    map.insert(map.end(), squares.begin(), squares.end());
    keep.insert(keep.end(), squares.begin(), squares.end());
    keep.push_back(squared);
  }
  Memory<T> feature_memory(x, offset), dx(count, offset);
  Feature feature{type_of<T>, feature_memory.data, samples, channels, positions, channels_last};
  Memory<A> scratch(attention_scratch(feature), 0), out(samples * positions, 0),
      kept(samples * (positions + 1), 0);
  attention(feature, scratch.data, out.data, kept.data, nullptr);
  expect_close("attention map " + name, out.read(), map, wide_tolerance<T>);
  expect_close("attention kept " + name, kept.read(), keep, wide_tolerance<T>);
  Memory<A> map_gradient(dmap, 0), factors(attention_gradient_scratch(feature), 0);
  attention_gradient(feature, kept.data, map_gradient.data, factors.data, dx.data, nullptr);
  expect_close("attention dx " + name, dx.read(), gradient, own_tolerance<T>, term);
}

template <typename T>
void test_type() {
  for (int offset : {0, 1}) {
    auto label = [&](std::initializer_list<int64_t> sizes, const char* layout = "") {
      std::string text = name_of<T>();
      for (auto size : sizes)
        text += (text.back() == '2' || text.back() == '4' || text.back() == '6' ? " " : "x") +
                std::to_string(size);
      return text + layout + (offset ? ", not aligned" : "");
    };
    for (auto [samples, size] :
         {std::pair<int64_t, int64_t>{1, 1}, {3, 7}, {2, 512}, {5, 1023}, {2, 40000}}) {
      test_mse<T>(samples, size, offset, label({samples, size}));
      test_cosine<T>(samples, size, offset, label({samples, size}));
    }
    for (auto [samples, channels, positions] : {std::tuple<int64_t, int64_t, int64_t>{1, 1, 1},
                                                {2, 3, 5},
                                                {3, 16, 64},
                                                {2, 70, 49},
                                                {1, 40, 2100},
                                                {2, 200, 1}})
      for (bool channels_last : {false, true})
        test_attention<T>(samples, channels, positions, channels_last, offset,
                          label({samples, channels, positions}, channels_last ? " channels-last" : ""));
  }
}

}  // namespace

int main() {
  test_type<float>();
  test_type<double>();
  test_type<__half>();
  test_type<__nv_bfloat16>();
  std::printf("%d cases, %d wrong\n", cases, failures);
  return failures == 0 ? 0 : 1;
}
