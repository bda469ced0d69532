// Loops over elementwise operations, read from a tape that `resjax/ops/tape.py` writes.
//
// A loop walks through its elements in tiles that stay in the cache: each operation is one pass over
// a tile, and memory is read and written once, however many operations there are. Loops run one
// after the other, so that a later one may read what an earlier one has written.

#include <cmath>

#include "vectors.h"

namespace {

// As `OPERATIONS` in tape.py.
enum Operation : int64_t {
  kAdd, kSubtract, kMultiply, kDivide, kMaximum, kMinimum, kNegative, kAbsolute, kRoot,
  kReciprocalRoot, kEqual, kNotEqual, kLess, kLessOrEqual, kGreater, kGreaterOrEqual, kAnd, kOr,
  kNot, kSelect, kNumber, kMultiplyAdd, kNormalise, kNormaliseAdd, kNormaliseMultiplyAdd, kRelu,
  kNormaliseRelu, kNormaliseAddRelu, kPositive,
};

enum Mode : int64_t { kWhole, kRepeated, kStrided, kConstant };

constexpr int kOperands = 6;  // the most that an operation takes
constexpr int64_t kParallelWork = 1 << 16;  // operations on elements that are worth several threads

// Where an operand of a loop is, or where a result goes.
struct Place {
  const int64_t* words;
  int64_t array() const { return words[0]; }  // results are numbered after the arguments
  bool boolean() const { return words[1]; }
  int64_t mode() const { return words[2]; }
  int64_t offset() const { return words[3]; }
  const int64_t* strides() const { return words + 4; }
};

struct Loop {
  bool wide;  // float64, and not float32
  int64_t rank;
  const int64_t* sizes;
  int64_t tile, operands, operations, results;
  const int64_t* places;  // [operands, 4 + rank]
  const int64_t* steps;   // [operations, 1 + kOperands]: operation and registers
  const int64_t* stores;  // [results, 1 + 4 + rank]: register and place

  explicit Loop(const int64_t*& words) {
    wide = *words++;
    rank = *words++;
    sizes = words;
    words += rank;
    tile = *words++, operands = *words++, operations = *words++, results = *words++;
    places = words;
    words += operands * (4 + rank);
    steps = words;
    words += operations * (1 + kOperands);
    stores = words;
    words += results * (5 + rank);
  }
  int64_t elements() const {
    int64_t product = 1;
    for (int64_t i = 0; i < rank; ++i) product *= sizes[i];
    return product;
  }
  Place operand(int64_t i) const { return {places + i * (4 + rank)}; }
  int64_t stored(int64_t i) const { return stores[i * (5 + rank)]; }
  int64_t operation(int64_t i) const { return steps[i * (1 + kOperands)]; }
  Place result(int64_t i) const { return {stores + i * (5 + rank) + 1}; }
};

// A truth value in a register has all its bits set or none.
template <typename T>
using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;

template <typename T>
Bits<T> One() {
  const T one = 1;
  Bits<T> bits;
  std::memcpy(&bits, &one, sizeof(T));
  return bits;
}

template <typename T, typename V>
V Root(V a) {
  for (size_t i = 0; i < sizeof(V) / sizeof(T); ++i) a[i] = std::sqrt(a[i]);
  return a;
}

// to[i] = f(x), where x(k) is from[k][i], vector by vector.
template <typename T, typename To, typename F>
void ForEach(int64_t n, To* to, const T* const* from, F f) {
  int64_t i = 0;
  auto step = [&](auto width) {
    using V = Vector<T, width.value>;
    const auto result = f([&](int k) -> V { return *reinterpret_cast<const V*>(from[k] + i); });
    if constexpr (sizeof(To) == sizeof(T)) {
      static_assert(sizeof(result) == sizeof(V));
      std::memcpy(to + i, &result, sizeof(V));
    } else {
      const auto truths = __builtin_convertvector(result & 1, Vector<uint8_t, width.value>);
      std::memcpy(to + i, &truths, sizeof(truths));
    }
    i += width.value;
  };
#pragma GCC unroll 4
  while (i + kWidth<T> <= n) step(Constant<kWidth<T>>());
  while (i < n) step(Constant<1>());
}

template <typename V>
V Relu(V a) {
  return (a > 0) | (a != a) ? a : V{};  // what is not a number stays so
}

template <typename T>
void Calculate(int64_t operation, int64_t n, void* memory, const T* const* from) {
  T* const to = static_cast<T*>(memory);
  auto with = [&](auto f) { ForEach<T>(n, to, from, f); };
  // Of truth values.
  auto of_bits = [&](auto f) {
    ForEach<Bits<T>>(n, reinterpret_cast<Bits<T>*>(to),
                     reinterpret_cast<const Bits<T>* const*>(from), f);
  };
  auto normalised = [](auto x) { return (x(0) - x(1)) * x(2) + x(3); };
  switch (operation) {
    case kAdd: return with([](auto x) { return x(0) + x(1); });
    case kSubtract: return with([](auto x) { return x(0) - x(1); });
    case kMultiply: return with([](auto x) { return x(0) * x(1); });
    case kDivide: return with([](auto x) { return x(0) / x(1); });
    case kMaximum:
      return with([](auto x) { return (x(0) > x(1)) | (x(0) != x(0)) ? x(0) : x(1); });
    case kMinimum:
      return with([](auto x) { return (x(0) < x(1)) | (x(0) != x(0)) ? x(0) : x(1); });
    case kNegative: return with([](auto x) { return -x(0); });
    case kAbsolute: return of_bits([](auto x) { return x(0) & (~Bits<T>(0) >> 1); });
    case kRoot: return with([](auto x) { return Root<T>(x(0)); });
    case kReciprocalRoot: return with([](auto x) { return T(1) / Root<T>(x(0)); });
    case kEqual: return with([](auto x) { return x(0) == x(1); });
    case kNotEqual: return with([](auto x) { return x(0) != x(1); });
    case kLess: return with([](auto x) { return x(0) < x(1); });
    case kLessOrEqual: return with([](auto x) { return x(0) <= x(1); });
    case kGreater: return with([](auto x) { return x(0) > x(1); });
    case kGreaterOrEqual: return with([](auto x) { return x(0) >= x(1); });
    case kAnd: return of_bits([](auto x) { return x(0) & x(1); });
    case kOr: return of_bits([](auto x) { return x(0) | x(1); });
    case kNot: return of_bits([](auto x) { return ~x(0); });
    case kSelect: return of_bits([](auto x) { return (x(1) & ~x(0)) | (x(2) & x(0)); });
    case kNumber: return of_bits([](auto x) { return x(0) & One<T>(); });
    case kMultiplyAdd: return with([](auto x) { return x(0) * x(1) + x(2); });
    case kNormalise: return with(normalised);
    case kNormaliseAdd: return with([=](auto x) { return normalised(x) + x(4); });
    case kNormaliseMultiplyAdd: return with([=](auto x) { return x(4) * x(5) + normalised(x); });
    case kRelu: return with([](auto x) { return Relu(x(0)); });
    case kNormaliseRelu: return with([=](auto x) { return Relu(normalised(x)); });
    case kNormaliseAddRelu: return with([=](auto x) { return Relu(normalised(x) + x(4)); });
    case kPositive:
      return ForEach<T>(n, static_cast<uint8_t*>(memory), from, [](auto x) { return x(0) > 0; });
  }
}

// Calls run(position in the tile, position in the array, number, distance) for runs of elements
// along the last axis, from element `first` of the loop on.
template <typename F>
void ForEachRun(const Loop& loop, const Place& place, int64_t first, int64_t n, F run) {
  const int64_t last = loop.rank - 1, stride = loop.rank ? place.strides()[last] : 0;
  const int64_t inner = loop.rank ? loop.sizes[last] : 1;
  for (int64_t done = 0; done < n;) {
    int64_t rest = (first + done) / inner, column = (first + done) % inner;
    int64_t at = place.offset() + column * stride;
    for (int64_t axis = last - 1; axis >= 0; --axis) {
      at += rest % loop.sizes[axis] * place.strides()[axis];
      rest /= loop.sizes[axis];
    }
    const int64_t count = std::min(inner - column, n - done);
    run(done, at, count, stride);
    done += count;
  }
}

template <typename From, typename To, typename F>
void Copy(const From* from, int64_t from_step, To* to, int64_t to_step, int64_t n, F convert) {
  if (from_step == 1 && to_step == 1) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) to[i] = convert(from[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) to[i * to_step] = convert(from[i * from_step]);
  }
}

template <typename T>
class Tape {
 public:
  Tape(const std::vector<void*>& arrays, const double* constants)
      : arrays_(arrays), constants_(constants) {}

  void Run(ffi::ThreadPool& pool, const Loop& loop) const {
    const int64_t n = loop.elements(), tiles = (n + loop.tile - 1) / loop.tile;
    if (n == 0) return;
    const int64_t work = n * (loop.operands + loop.operations + loop.results);
    const int64_t tasks = std::clamp<int64_t>(work / kParallelWork, 1, std::min(tiles, kTasks));
    auto run = [&](int64_t task) { Walk(loop, n, task * tiles / tasks, (task + 1) * tiles / tasks); };
    tasks == 1 ? run(0) : ParallelFor(pool, tasks, run);
  }

 private:
  template <typename E>
  E* At(const Place& place) const { return static_cast<E*>(arrays_[place.array()]); }

  void Load(const Loop& loop, const Place& place, int64_t first, int64_t n, T* to) const {
    Bits<T>* const mask = reinterpret_cast<Bits<T>*>(to);
    if (place.mode() == kConstant) {
      const double value = constants_[place.array()];
      if (place.boolean()) return static_cast<void>(std::fill_n(mask, n, -Bits<T>(value != 0)));
      return static_cast<void>(std::fill_n(to, n, T(value)));
    }
    const T* const numbers = At<T>(place);
    const uint8_t* const truths = At<uint8_t>(place);
    ForEachRun(loop, place, first, n, [&](int64_t at, int64_t from, int64_t count, int64_t step) {
      if (place.boolean()) {
        Copy(truths + from, step, mask + at, 1, count, [](uint8_t truth) { return -Bits<T>(truth); });
      } else if (step == 0) {
        std::fill_n(to + at, count, numbers[from]);
      } else {
        Copy(numbers + from, step, to + at, 1, count, [](T number) { return number; });
      }
    });
  }

  void Store(const Loop& loop, const Place& place, int64_t first, int64_t n, const T* from) const {
    const Bits<T>* const mask = reinterpret_cast<const Bits<T>*>(from);
    T* const numbers = At<T>(place);
    uint8_t* const truths = At<uint8_t>(place);
    ForEachRun(loop, place, first, n, [&](int64_t at, int64_t to, int64_t count, int64_t step) {
      if (place.boolean()) {
        Copy(mask + at, 1, truths + to, step, count, [](Bits<T> bits) -> uint8_t { return bits & 1; });
      } else {
        Copy(from + at, 1, numbers + to, step, count, [](T number) { return number; });
      }
    });
  }

  // The tiles from begin to before end.
  void Walk(const Loop& loop, int64_t elements, int64_t begin, int64_t end) const {
    const int64_t count = loop.operands + loop.operations;
    static thread_local std::vector<T> memory;
    static thread_local std::vector<T*> own, now;
    const int64_t room = loop.tile + 48;  // no two registers lie a multiple of 4096 bytes apart
    if (memory.size() < static_cast<size_t>(count * room)) memory.resize(count * room);
    own.resize(count), now.resize(count);
    for (int64_t i = 0; i < count; ++i) own[i] = memory.data() + i * room;
    // Results that lie as the loop walks are computed where they belong.
    static thread_local std::vector<int64_t> direct;
    direct.assign(count, -1);
    for (int64_t i = 0; i < loop.results; ++i) {
      const Place place = loop.result(i);
      const int64_t stored = loop.stored(i);
      if (place.mode() != kWhole || stored < loop.operands) continue;
      const bool bytes = loop.operation(stored - loop.operands) == kPositive;
      if (bytes == place.boolean()) direct[stored] = i;
    }
    for (int64_t tile = begin; tile < end; ++tile) {
      const int64_t first = tile * loop.tile, n = std::min(loop.tile, elements - first);
      for (int64_t i = 0; i < loop.operands; ++i) {
        const Place place = loop.operand(i);
        if (place.mode() == kWhole && !place.boolean()) {
          now[i] = At<T>(place) + place.offset() + first;
          continue;
        }
        now[i] = own[i];
        const bool same = place.mode() == kRepeated || place.mode() == kConstant;
        if (tile == begin || !same) Load(loop, place, first, same ? loop.tile : n, own[i]);
      }
      for (int64_t i = 0; i < loop.operations; ++i) {
        const int64_t* const step = loop.steps + (1 + kOperands) * i;
        const int64_t at = loop.operands + i;
        now[at] = own[at];
        if (direct[at] >= 0) {
          const Place place = loop.result(direct[at]);
          char* const array = At<char>(place);
          const int64_t size = place.boolean() ? 1 : sizeof(T);
          now[at] = reinterpret_cast<T*>(array + (place.offset() + first) * size);
        }
        const T* from[kOperands];
        for (int k = 0; k < kOperands; ++k) from[k] = now[step[1 + k]];
        Calculate<T>(step[0], n, now[at], from);
      }
      for (int64_t i = 0; i < loop.results; ++i) {
        const int64_t stored = loop.stored(i);
        if (direct[stored] != i) Store(loop, loop.result(i), first, n, now[stored]);
      }
    }
  }

  const std::vector<void*>& arrays_;
  const double* const constants_;
};

ffi::Error ElementwiseCall(ffi::ThreadPool pool, ffi::RemainingArgs arguments,
                           ffi::RemainingRets results, ffi::Span<const int64_t> words,
                           ffi::Span<const double> constants) {
  std::vector<void*> arrays;
  for (size_t i = 0; i < arguments.size(); ++i) {
    arrays.push_back(arguments.get<ffi::AnyBuffer>(i)->untyped_data());
  }
  for (size_t i = 0; i < results.size(); ++i) {
    arrays.push_back((*results.get<ffi::AnyBuffer>(i))->untyped_data());
  }
  for (const int64_t* at = words.begin(); at < words.end();) {
    const Loop loop(at);
    const ffi::DataType type = loop.wide ? ffi::DataType::F64 : ffi::DataType::F32;
    const ffi::Error error = Dispatch(type, [&](auto zero) {
      Tape<decltype(zero)>(arrays, constants.begin()).Run(pool, loop);
    });
    if (error.failure()) return error;
  }
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(resjax_elementwise, ElementwiseCall,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .RemainingArgs()
                                  .RemainingRets()
                                  .Attr<ffi::Span<const int64_t>>("tape")
                                  .Attr<ffi::Span<const double>>("constants"));
